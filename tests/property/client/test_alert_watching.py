"""Following alerts over streams that break anywhere: each change once, nothing invented, an end in time, no spin."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
from hypothesis import given, settings
from hypothesis import strategies as st
from infermesh.client.alerts import Alerts
from infermesh.client.errors import InfermeshError
from infermesh.client.transport import Transport
from infermesh.monitor.v1 import alert_pb2

TIMEOUT_S = 60.0
OUTAGE_S = 10.0
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
STATUSES = ("firing", "acknowledged", "resolved")


@dataclass(frozen=True)
class Round:
    """What one stream tells: alerts with their statuses, each after some seconds, then how it ends. None: by itself."""

    told: tuple[tuple[str, str, float], ...]
    end: grpc.StatusCode | None


@dataclass
class Mesh:
    """A transport whose monitor follows a script, over a clock that only waiting moves. Then it tells nothing more."""

    rounds: list[Round]
    now_s: float = 0.0
    opened: int = 0
    told: list[tuple[str, str]] = field(default_factory=list)
    channel: Any = None

    def __post_init__(self) -> None:
        self.channel = self

    def __getattr__(self, name: str) -> Callable[..., None]:
        # A channel makes callables; calls come through `stream`.
        if name in {"unary_unary", "unary_stream", "stream_unary", "stream_stream"}:
            return lambda *_, **__: None
        raise AttributeError(name)

    def stream(self, _method: object, _request: object, *, timeout_s: float) -> Iterator[alert_pb2.Alert]:
        self.opened += 1
        ends_s = self.now_s + timeout_s
        script = self.rounds.pop(0) if self.rounds else Round((), end=grpc.StatusCode.DEADLINE_EXCEEDED)
        for name, status, after_s in script.told:
            if self.now_s + after_s >= ends_s:
                break
            self.now_s += after_s
            self.told.append((name, status))
            yield alert_pb2.Alert(alert_id=name, status=status)
        else:
            if script.end is not grpc.StatusCode.DEADLINE_EXCEEDED:
                if script.end is not None:
                    raise InfermeshError("broken off", code=script.end, reason=script.end.name)
                return
        self.now_s = ends_s
        raise InfermeshError("late", code=grpc.StatusCode.DEADLINE_EXCEEDED, reason="DEADLINE_EXCEEDED")

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


rounds = st.builds(
    Round,
    told=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(STATUSES), st.floats(0.01, 20)), max_size=5).map(
        tuple
    ),
    end=st.sampled_from([None, *PASSING]),
)


def followed(mesh: Mesh) -> tuple[list[tuple[str, str]], InfermeshError | None]:
    seen: list[tuple[str, str]] = []
    try:
        watched = Alerts(cast("Transport", mesh)).watch(
            timeout_s=TIMEOUT_S, outage_timeout_s=OUTAGE_S, monotonic=lambda: mesh.now_s, sleep=mesh.sleep
        )
        seen.extend((one.alert_id, one.status) for one in watched)
    except InfermeshError as met:
        return seen, met
    return seen, None


@settings(deadline=None)
@given(st.lists(rounds, max_size=8))
def test_each_change_is_seen_once_and_it_ends_in_time(script: list[Round]) -> None:
    mesh = Mesh(list(script))
    seen, met = followed(mesh)
    assert met is None
    last: dict[str, str] = {}
    changes = []
    for name, status in mesh.told:
        if last.get(name) != status:
            changes.append((name, status))
        last[name] = status
    assert seen == changes
    assert mesh.now_s <= TIMEOUT_S + 1
    assert mesh.opened <= TIMEOUT_S / 0.1 + 1


@settings(deadline=None)
@given(st.lists(rounds, max_size=3))
def test_what_will_not_pass_ends_it_at_once(script: list[Round]) -> None:
    short = [Round(one.told, one.end) for one in script if sum(after for *_, after in one.told) < 10]
    mesh = Mesh([*short, Round((), end=grpc.StatusCode.PERMISSION_DENIED)])
    _, met = followed(mesh)
    assert met is not None
    assert met.code is grpc.StatusCode.PERMISSION_DENIED


@settings(deadline=None)
@given(st.lists(st.sampled_from(PASSING), min_size=200, max_size=200))
def test_an_outage_is_endured_for_so_long(codes: list[grpc.StatusCode]) -> None:
    mesh = Mesh([Round((), end=code) for code in codes])
    _, met = followed(mesh)
    assert met is not None
    assert met.code in PASSING
    assert OUTAGE_S <= mesh.now_s <= OUTAGE_S + 1
