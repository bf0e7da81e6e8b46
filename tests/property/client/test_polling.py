"""Following what is read again and again: each change once, in order, an end in time, no spin."""

from dataclasses import dataclass

import grpc
from hypothesis import given
from hypothesis import strategies as st
from infermesh.client.errors import InfermeshError
from infermesh.client.polling import followed

TIMEOUT_S = 60.0
OUTAGE_S = 10.0
PERIOD_S = 2.0
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED)
LASTING = (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)

Look = tuple[int | grpc.StatusCode, float]
"""What a look finds, 9 being the end, or how it fails; and how many seconds it takes."""
looks = st.lists(
    st.tuples(st.one_of(st.integers(0, 3), st.just(9), st.sampled_from(PASSING)), st.floats(0, 3)), max_size=60
)


@dataclass
class Script:
    """Looks one after the other, over a clock that only they and waiting move; afterwards the last state stays."""

    left: list[Look]
    now_s: float = 0.0
    reads: int = 0
    state: int = 0

    def __post_init__(self) -> None:
        self.told: list[int] = []

    def read(self, left_s: float) -> int:
        assert left_s > 0
        self.reads += 1
        found, took_s = self.left.pop(0) if self.left else (self.state, 0.0)
        self.now_s += min(took_s, left_s)
        if isinstance(found, grpc.StatusCode):
            raise InfermeshError("broken off", code=found, reason=found.name)
        self.state = found
        self.told.append(found)
        return found

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now_s += seconds


def follow(script: Script) -> tuple[list[int], InfermeshError | None]:
    seen: list[int] = []
    try:
        seen.extend(
            followed(
                script.read,
                ended=lambda state: state == 9,
                what="it",
                timeout_s=TIMEOUT_S,
                period_s=PERIOD_S,
                outage_timeout_s=OUTAGE_S,
                monotonic=lambda: script.now_s,
                sleep=script.sleep,
            )
        )
    except InfermeshError as met:
        return seen, met
    return seen, None


@given(looks)
def test_each_change_is_told_once_and_it_ends_in_time(script: list[Look]) -> None:
    played = Script(list(script))
    seen, met = follow(played)
    changes = [one for place, one in enumerate(played.told) if place == 0 or one != played.told[place - 1]]
    assert seen == changes
    assert (met is None) == (bool(seen) and seen[-1] == 9)
    assert played.now_s <= TIMEOUT_S + 3
    assert played.reads <= TIMEOUT_S / 0.1 + 1


@given(looks, st.sampled_from(LASTING))
def test_what_will_not_pass_ends_it_at_once(script: list[Look], code: grpc.StatusCode) -> None:
    states = [look for look in script if isinstance(look[0], int) and look[0] != 9][:5]
    played = Script([*states, (code, 0.0), (9, 0.0)])
    _, met = follow(played)
    assert met is not None
    assert met.code is code


@given(st.lists(st.sampled_from(PASSING), min_size=400, max_size=400))
def test_an_outage_is_endured_for_so_long(codes: list[grpc.StatusCode]) -> None:
    played = Script([(1, 0.0), *((code, 0.0) for code in codes)])
    seen, met = follow(played)
    assert seen == [1]
    assert met is not None
    assert met.code in PASSING
    assert OUTAGE_S <= played.now_s <= OUTAGE_S + PERIOD_S + 1
