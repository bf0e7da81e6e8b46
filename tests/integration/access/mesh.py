"""The services that speak gRPC, real and over one PostgreSQL, in this process; two teams; and callers of every kind."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2, batch_service_pb2_grpc
from infermesh.monitor.v1 import rollout_event_pb2, rollout_event_service_pb2_grpc
from infermesh.registry.v1 import registry_service_pb2, team_service_pb2

from services.batch.settings import BatchSettings
from services.batch.wiring import build as build_batch
from services.common.access.decide import Standing
from services.common.clock import SystemClock
from services.common.grpc.identity import Identity, identity_headers
from services.common.grpc.status import STATUS_DETAILS_KEY
from services.common.lifecycle import Lifecycle
from services.deployer.settings import DeployerSettings
from services.deployer.wiring import build as build_deployer
from services.monitor.settings import MonitorSettings
from services.monitor.wiring import build as build_monitor
from services.registry.settings import RegistrySettings
from services.registry.wiring import build as build_registry
from services.router.settings import RouterSettings
from services.router.wiring import build as build_router
from tests.support.clock import NOON
from tests.support.every_call import Call, Names
from tests.support.monitor_events import event_message
from tests.support.parts import free_port
from tests.support.registry_driving import digits
from tests.support.registry_team import INSIDE, OPERATOR, make_team, member, models_by, stranger, teams_by
from tests.support.waiting import eventually

SERVICES = {
    "registry": (
        "infermesh.registry.v1.RegistryService",
        "infermesh.registry.v1.ArtifactService",
        "infermesh.registry.v1.TeamService",
    ),
    "router": ("infermesh.router.v1.RouterService", "infermesh.router.v1.ServingTableService"),
    "deployer": (
        "infermesh.deployer.v1.DeployerService",
        "infermesh.deployer.v1.BackendService",
        "infermesh.deployer.v1.ActivationService",
    ),
    "batch": ("infermesh.batch.v1.BatchService", "infermesh.batch.v1.WorkerService"),
    "monitor": (
        "infermesh.monitor.v1.MonitorService",
        "infermesh.monitor.v1.EvidenceService",
        "infermesh.monitor.v1.PredictionLogService",
        "infermesh.monitor.v1.LoggingPolicyService",
        "infermesh.monitor.v1.RolloutEventService",
    ),
}
SERVER_OF: Mapping[str, str] = {service: name for name, services in SERVICES.items() for service in services}

OWN, LENT, HIDDEN, ABSENT, NOBODYS = "red-own1", "blue-own", "blue-hid", "blue-abs", "nobodys1"
"""Models as team red sees them: its own, one that is shared with it, one of blue's alone, none, one without a team."""
STANDINGS: Mapping[str, Standing | None] = {
    OWN: Standing("red"),
    LENT: Standing("blue", frozenset({"red"})),
    HIDDEN: Standing("blue"),
    ABSENT: None,
    NOBODYS: Standing(),
}
CALLERS: Mapping[str, Identity] = {
    "nobody": stranger(),
    "who claims an unknown role": Identity(user="", team="red", role="root"),
    "a user without a team": stranger("ulla"),
    "a viewer": member("red", "viewer"),
    "a deployer": member("red", "deployer"),
    "an admin": member("red", "admin", key_id="key-of-red"),
    "another team's admin": member("blue", "admin"),
    "a key for one model": member("red", "admin", models=frozenset({OWN})),
    "a key that only predicts": member("red", "admin", scopes=frozenset({"predict"})),
    "a key that only deploys": member("red", "deployer", scopes=frozenset({"deployments.write"})),
    "an operator": OPERATOR,
}


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    code: str
    message: str = ""
    details: bytes = b""
    reason: str = ""
    payload: bytes = b""

    def renamed(self, before: str, after: str) -> "Answer":
        """The answer as it would read of another thing of that name, of the same length."""
        assert len(before) == len(after)
        return Answer(
            self.code,
            self.message.replace(before, after),
            self.details.replace(before.encode(), after.encode()),
            self.reason,
            self.payload.replace(before.encode(), after.encode()),
        )


_TRIES = 5
_UNHEARD = "Internal error from Core"
"""Said by the client's side of grpc.aio alone."""


@dataclass
class Mesh:
    """Where each service answers."""

    channels: Mapping[str, grpc.aio.Channel]
    addresses: Mapping[str, str]
    lifecycles: Mapping[str, Lifecycle]

    async def ask(
        self, call: Call, names: Names, caller: Identity, *, request: Message | None = None, timeout_s: float = 5.0
    ) -> Answer:
        """One call as the gateway would hand it on; of an endless stream the first answer.

        A stream that is refused while its first message is being written is asked again: grpc.aio puts an error of its
        own in place of what the server said (grpc/grpc#36066).
        """
        for _ in range(_TRIES):
            answer = await self._ask(call, names, caller, request=request, timeout_s=timeout_s)
            if not (call.streams_in and answer.message == _UNHEARD):
                break
        return answer

    async def _ask(
        self, call: Call, names: Names, caller: Identity, *, request: Message | None, timeout_s: float
    ) -> Answer:
        channel = self.channels[SERVER_OF[call.service]]
        sent = request if request is not None else call.request(names)
        headers = identity_headers(caller)
        options: Any = {"metadata": headers, "timeout": timeout_s}
        try:
            if call.streams_in and call.streams_out:
                both: Any = channel.stream_stream(call.method, request_serializer=_written)
                return Answer("OK", payload=await _read(both(iter([sent]), **options), endless=True))
            if call.streams_out:
                out: Any = channel.unary_stream(call.method, request_serializer=_written)
                return Answer("OK", payload=await _read(out(sent, **options), endless=call.endless))
            if call.streams_in:
                into: Any = channel.stream_unary(call.method, request_serializer=_written)
                return Answer("OK", payload=await into(iter([sent]), **options))
            unary: Any = channel.unary_unary(call.method, request_serializer=_written)
            return Answer("OK", payload=await unary(sent, **options))
        except grpc.aio.AioRpcError as error:
            return _answer(error)

    @property
    def registry(self) -> grpc.aio.Channel:
        """The registry's channel."""
        return self.channels["registry"]


def _written(message: Message) -> bytes:
    return message.SerializeToString()


async def _read(stream: Any, *, endless: bool) -> bytes:
    """A stream to its end, or its first answer where it has none."""
    read = b""
    try:
        async for response in stream:
            read += bytes(response)
            if endless:
                break
        return read
    finally:
        stream.cancel()


def _answer(error: grpc.aio.AioRpcError) -> Answer:
    details = b""
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_DETAILS_KEY and isinstance(value, bytes):
            details = value
    reason, info = "", error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Unpack(info):
            reason = info.reason
    return Answer(error.code().name, error.details() or "", details, reason)


@asynccontextmanager
async def running(database_url: str, folder: Path) -> AsyncIterator[Mesh]:
    """All of them, ready and knowing the two teams."""
    ports = {name: free_port() for name in SERVICES}
    addresses = {f"{name}_address": f"127.0.0.1:{port}" for name, port in ports.items()}

    def told(name: str, *neighbours: str, **more: object) -> dict[str, object]:
        return {
            "port": ports[name],
            "metrics_port": 0,
            "database_url": database_url,
            "data_dir": folder / name,
            **{key: addresses[key] for key in neighbours},
            **more,
        }

    clock = SystemClock()
    nowhere = f"127.0.0.1:{free_port()}"
    triton = {"triton_http_address": nowhere, "triton_grpc_address": nowhere, "model_repository": folder / "models"}
    near = ("registry_address", "deployer_address", "monitor_address", "batch_address")
    registry = RegistrySettings.model_validate(told("registry", "deployer_address"))
    router = RouterSettings.model_validate(told("router", *near, first_batcher_s=0.05, change_patience_s=0.5))
    deployer = DeployerSettings.model_validate(told("deployer", "registry_address", "router_address", **triton))
    batch = BatchSettings.model_validate(told("batch", "registry_address", batcher_address=nowhere, poll_period_s=0.2))
    monitor = MonitorSettings.model_validate(told("monitor", "registry_address"))
    builders: dict[str, Callable[[], Lifecycle]] = {
        "registry": lambda: build_registry(registry, clock=clock).lifecycle,
        "monitor": lambda: build_monitor(monitor, clock=clock).lifecycle,
        "deployer": lambda: build_deployer(deployer, clock=clock).lifecycle,
        "router": lambda: build_router(router, clock=clock).lifecycle,
        "batch": lambda: build_batch(batch, clock=clock).lifecycle,
    }
    async with AsyncExitStack() as stack:
        lifecycles, channels = {}, {}
        for name, build in builders.items():
            lifecycles[name] = build()
            await lifecycles[name].start()
            stack.push_async_callback(lifecycles[name].stop)
            channels[name] = grpc.aio.insecure_channel(f"127.0.0.1:{ports[name]}")
            stack.push_async_callback(channels[name].close)
        mesh = Mesh(channels, {name: f"127.0.0.1:{port}" for name, port in ports.items()}, lifecycles)
        await _settle(mesh)
        yield mesh


async def _settle(mesh: Mesh) -> None:
    """Two teams with a model each, one of which is shared, and what is not shared."""
    for team in ("red", "blue"):
        await make_team(mesh.registry, team)
    for name, caller in (
        (OWN, member("red", "deployer")),
        (LENT, member("blue", "deployer")),
        (HIDDEN, member("blue", "deployer")),
        (NOBODYS, INSIDE),
    ):
        await models_by(mesh.registry, caller).CreateModel(digits(name=name))
    share = registry_service_pb2.ShareModelRequest(model_name=LENT, team="red")
    await models_by(mesh.registry, member("blue")).ShareModel(share)
    await eventually(lambda: _heard(mesh), what="every service has heard of the last change")


async def _heard(mesh: Mesh) -> bool:
    """Whether every follower sees what is shared, without a question to the registry."""
    call = batch_service_pb2.ListBatchJobsRequest()
    headers = identity_headers(member("red", "viewer"))
    stub = batch_service_pb2_grpc.BatchServiceStub(mesh.channels["batch"])
    try:
        await stub.ListBatchJobs(call, metadata=headers, timeout=1)
    except grpc.aio.AioRpcError:
        return False
    return True


async def make_alert(mesh: Mesh, model: str) -> None:
    """An alert of a model, as the router's word raises it."""
    stub = rollout_event_service_pb2_grpc.RolloutEventServiceStub(mesh.channels["monitor"])
    event = event_message(f"event-of-{model}", model=model, at=NOON)
    await stub.ReportEvents(rollout_event_pb2.ReportEventsRequest(events=[event]), timeout=5)


async def make_key(mesh: Mesh, team: str) -> str:
    """The id of a key of a team."""
    request = team_service_pb2.CreateApiKeyRequest(team_name=team, name="walk", role="viewer")
    made = await teams_by(mesh.registry, member(team)).CreateApiKey(request)
    return str(made.api_key.key_id)


async def make_schedule(mesh: Mesh, model: str, caller: Identity) -> str:
    """The id of a batch schedule of a caller's team."""
    schedule = batch_job_pb2.BatchSchedule(
        schedule_name=f"of-{model}",
        cron="0 0 1 1 *",
        job=batch_job_pb2.BatchJob(
            model_name=model,
            model_version="v1.0.0",
            input_uri="file:///nowhere/in.jsonl",
            output_uri="file:///nowhere/out-{run}.jsonl",
        ),
    )
    request = batch_service_pb2.CreateBatchScheduleRequest(schedule=schedule)
    stub = batch_service_pb2_grpc.BatchServiceStub(mesh.channels["batch"])
    made = await stub.CreateBatchSchedule(request, metadata=identity_headers(caller), timeout=10)
    return str(made.schedule_id)


async def make_job(mesh: Mesh, model: str, caller: Identity, folder: Path) -> str:
    """The id of a batch job of a caller's team."""
    source = folder / f"{model}.jsonl"
    await asyncio.to_thread(source.write_text, '{"X": ' + str([0.0] * 64) + "}\n")
    request = batch_service_pb2.CreateBatchJobRequest(
        model_name=model, model_version="v1.0.0", input_uri=source.as_uri(), output_uri=f"{source.as_uri()}.out.jsonl"
    )
    stub = batch_service_pb2_grpc.BatchServiceStub(mesh.channels["batch"])
    made = await stub.CreateBatchJob(request, metadata=identity_headers(caller), timeout=10)
    return str(made.job_id)
