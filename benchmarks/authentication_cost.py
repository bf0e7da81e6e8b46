"""What telling callers apart costs the gateway: `python -m benchmarks.authentication_cost [--rounds 20]`.

Four gateways that differ in one thing, before an Envoy that answers at once: nobody is asked for a key; everybody is;
the same with ten thousand revoked keys; and with callers whose keys the gateway has never seen. gRPC requests that name
their model, fifty under way at a time, go through each in turns, so that what else the machine does meets all. Printed
is the processor time of the gateway's threads for a request, out of /proc, and what it is more than without keys: of
the best round, which other load disturbed least, and in the middle.
"""

import argparse
import asyncio
import json
import socket
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from benchmarks.http2 import Connection
from benchmarks.many_models import Site, answering_at_once, cpu_of, site
from services.router.domain.access import Callers

REVOKED = 10_000
PATH = "/inference.GRPCInferenceService/ModelInfer"
_MODELS = (1,)
_TURN, _TURNS = 50, 20
_TIMEOUT_S = 20.0
_EMPTY_MESSAGE = bytes(5)
_PRIVATE = ec.generate_private_key(ec.SECP256R1())


def key(number: int) -> str:
    """An API key like those that the registry makes."""
    claims = {"iss": "infermesh", "aud": "infermesh", "jti": f"{number:026d}", "team": "vision", "role": "deployer"}
    return jwt.encode({**claims, "iat": 1_700_000_000}, _PRIVATE, algorithm="ES256", headers={"kid": "k"})


def callers(revoked: int) -> Callers:
    """Those whose keys are good, and so many whose keys are not any more."""
    public = ECAlgorithm.to_jwk(_PRIVATE.public_key(), as_dict=True)
    told: dict[str, Any] = {"keys": [{**public, "kid": "k", "alg": "ES256"}]}
    ids = tuple(f"{number:026d}" for number in range(1_000_000, 1_000_000 + revoked))
    return Callers("1", json.dumps(told), ids)


class Line:
    """One connection of a caller with a key, or without."""

    def __init__(self, port: int, secret: str | None) -> None:
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "gateway"),
            (":path", PATH),
            # Envoy itself answers gRPC with an error alone, and the gateway does not look at this.
            ("content-type", "application/octet-stream"),
            ("x-model-name", "model-1"),
        ]
        if secret is not None:
            headers.append(("authorization", f"Bearer {secret}"))
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = Connection(headers, _EMPTY_MESSAGE)

    def ask(self, requests: int) -> None:
        """So many at once; returns once all were answered."""
        for number in range(requests):
            self._connection.send(number)
        left = requests
        while left:
            if self._connection.outgoing:
                self._socket.sendall(self._connection.outgoing)
                self._connection.outgoing.clear()
            received = self._socket.recv(65_536)
            if not received:
                raise SystemExit("the gateway closed the connection")
            over = self._connection.receive(received)
            if not all(answered for _, answered in over):
                raise SystemExit("a request was not answered")
            left -= len(over)

    def close(self) -> None:
        """No more requests."""
        self._socket.close()


def known_callers(one: Site, secret: str | None) -> float:
    """Microseconds of the gateway for a request of a caller that it has seen."""
    line = Line(one.port, secret)
    line.ask(_TURN)
    began_us = cpu_of(one)
    for _ in range(_TURNS):
        line.ask(_TURN)
    spent_us = cpu_of(one) - began_us
    line.close()
    return spent_us / (_TURN * _TURNS)


def first_request(one: Site, numbers: Sequence[int]) -> float:
    """Microseconds of the gateway for the first request on a new connection, by callers with these keys in turns."""
    spent_us = []
    for number in numbers:
        secret = key(number)
        began_us = cpu_of(one)
        line = Line(one.port, secret)
        line.ask(1)
        spent_us.append(cpu_of(one) - began_us)
        line.close()
    return statistics.median(spent_us)


def measured(sites: Sequence[Site], rounds: int) -> list[list[float]]:
    """What a request costs at each, in each round. The last is asked by callers that it has never seen."""
    *known, fresh = sites
    costs: list[list[float]] = [[] for _ in sites]
    for number in range(rounds):
        for place, one in enumerate(known):
            costs[place].append(known_callers(one, key(0) if place else None))
        unseen = range(1 + number * _TURN, 1 + (number + 1) * _TURN)
        # Both pay for their connection.
        costs[-1].append(costs[1][-1] + first_request(fresh, unseen) - first_request(fresh, [unseen[0]] * _TURN))
    return costs


async def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measure what telling callers apart costs the gateway.")
    parser.add_argument("--rounds", type=int, default=20, help="how often each is measured")
    rounds: int = parser.parse_args().rounds
    known = callers(0)
    wanted = (
        ("nobody is asked for a key", None),
        ("a key that was seen before", known),
        (f"the same, {REVOKED} keys are revoked", callers(REVOKED)),
        ("a key that was never seen", known),
    )
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            upstream = await stack.enter_async_context(answering_at_once(Path(folder)))
            sites = [
                await stack.enter_async_context(site(Path(folder) / str(place), upstream, _MODELS, admitted=admitted))
                for place, (_, admitted) in enumerate(wanted)
            ]
            costs = await asyncio.to_thread(measured, sites, rounds)
    for (name, _), each in zip(wanted, costs, strict=True):
        more = [here - without for here, without in zip(each, costs[0], strict=True)]
        print(
            f"{name:40} least {min(each):6.1f} µs a request ({min(each) - min(costs[0]):+.1f}), "
            f"median {statistics.median(each):6.1f} ({statistics.median(more):+.1f})"
        )


if __name__ == "__main__":
    asyncio.run(main())
