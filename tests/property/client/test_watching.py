"""Following a deployment over streams that break anywhere: nothing twice, nothing invented, an end in time, no spin."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from infermesh.client.deployments import Deployments
from infermesh.client.errors import InfermeshError
from infermesh.client.transport import Transport
from infermesh.deployer.v1 import deployer_service_pb2, deployment_pb2

TIMEOUT_S = 60.0
OUTAGE_S = 10.0
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
LASTING = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)
STATUSES = ("pending", "deploying", "active", "failed", "terminating")


def error(code: grpc.StatusCode, reason: str = "") -> InfermeshError:
    return InfermeshError("broken off", code=code, reason=reason or code.name)


@dataclass(frozen=True)
class Round:
    """What one stream tells: statuses, each after some seconds, then how it ends. None: it lasts its whole time."""

    told: tuple[tuple[str, float], ...]
    removed: bool
    end: grpc.StatusCode | None


@dataclass
class Mesh:
    """A transport whose deployer follows a script, over a clock that only waiting moves."""

    rounds: list[Round]
    now_s: float = 0.0
    status: str = "pending"
    gone: bool = False
    reads: int = 0
    told: list[str] = field(default_factory=list)
    timeout_s: float = 30.0
    channel: Any = None

    def __post_init__(self) -> None:
        self.channel = self

    def __getattr__(self, name: str) -> Callable[..., None]:
        # A channel makes callables; calls come through `call` and `stream`.
        if name in {"unary_unary", "unary_stream", "stream_unary", "stream_stream"}:
            return lambda *_, **__: None
        raise AttributeError(name)

    def call(self, _method: object, _request: object, *, timeout_s: float) -> deployment_pb2.Deployment:
        self.reads += 1
        if self.gone:
            raise error(grpc.StatusCode.NOT_FOUND, "DEPLOYMENT_NOT_FOUND")
        self.told.append(self.status)
        return deployment(self.status)

    def stream(
        self, _method: object, _request: object, *, timeout_s: float
    ) -> Iterator[deployer_service_pb2.WatchDeploymentsResponse]:
        ends_s = self.now_s + timeout_s
        script = self.rounds.pop(0) if self.rounds else Round((), removed=False, end=None)
        for status, after_s in script.told:
            if self.now_s + after_s >= ends_s:
                break
            self.now_s += after_s
            self.status = status
            self.told.append(status)
            yield deployer_service_pb2.WatchDeploymentsResponse(deployment=deployment(status))
        else:
            if script.removed:
                self.gone = True
                yield deployer_service_pb2.WatchDeploymentsResponse(deployment=deployment(self.status), removed=True)
                return
            if script.end is not None:
                raise error(script.end)
        self.now_s = ends_s
        raise error(grpc.StatusCode.DEADLINE_EXCEEDED)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def deployment(status: str) -> deployment_pb2.Deployment:
    return deployment_pb2.Deployment(deployment_id="one", deployment_name="v1-0-0", status=status)


rounds = st.builds(
    Round,
    told=st.lists(st.tuples(st.sampled_from(STATUSES), st.floats(0.01, 20)), max_size=4).map(tuple),
    removed=st.booleans(),
    end=st.sampled_from([None, *PASSING]),
)


def followed(mesh: Mesh) -> tuple[list[str], InfermeshError | None]:
    deployments = Deployments(cast("Transport", mesh), monotonic=lambda: mesh.now_s, sleep=mesh.sleep)
    seen: list[str] = []
    try:
        watched = deployments.watch("m", "v1-0-0", timeout_s=TIMEOUT_S, outage_timeout_s=OUTAGE_S)
        seen.extend(item.status for item in watched)
    except InfermeshError as met:
        return seen, met
    return seen, None


@settings(deadline=None)
@given(st.lists(rounds, max_size=8))
def test_all_that_was_told_is_seen_once_and_it_ends_in_time(script: list[Round]) -> None:
    mesh = Mesh(list(script))
    seen, met = followed(mesh)
    changes = [status for place, status in enumerate(mesh.told) if place == 0 or status != mesh.told[place - 1]]
    assert seen == changes
    assert (met is None) == mesh.gone
    assert mesh.now_s <= TIMEOUT_S + 1
    # Each look but the first comes after a stream that lasted or a pause: it cannot spin.
    assert mesh.reads <= TIMEOUT_S / 0.1 + 1


@settings(deadline=None)
@given(
    st.lists(rounds, max_size=4), st.sampled_from([grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED])
)
def test_what_will_not_pass_ends_it_at_once(script: list[Round], code: grpc.StatusCode) -> None:
    kept = [Round(item.told, removed=False, end=None) for item in script if sum(after for _, after in item.told) < 10]
    mesh = Mesh([*kept[:2], Round((), removed=False, end=code)])
    _, met = followed(mesh)
    assert met is not None
    assert met.code is code


@settings(deadline=None)
@given(st.lists(st.sampled_from(PASSING), min_size=200, max_size=200))
def test_an_outage_is_endured_for_so_long(codes: list[grpc.StatusCode]) -> None:
    mesh = Mesh([Round((), removed=False, end=code) for code in codes])
    _, met = followed(mesh)
    assert met is not None
    assert met.code in PASSING
    assert OUTAGE_S <= mesh.now_s <= OUTAGE_S + 1
