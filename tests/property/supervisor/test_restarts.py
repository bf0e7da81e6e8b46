"""Whether a part that died is started again."""

from hypothesis import given
from hypothesis import strategies as st

from services.supervisor.domain.restarts import DELAYS_S, PATIENT_DELAY_S, WINDOW_S, GiveUp, Restart, decide_restart

deaths = st.lists(st.floats(min_value=0, max_value=10_000, allow_nan=False), min_size=1, max_size=30).map(sorted)


@given(deaths)
def test_gives_up_only_on_more_deaths_within_the_window_than_there_are_delays(deaths_s: list[float]) -> None:
    recent = [death_s for death_s in deaths_s if deaths_s[-1] - death_s < WINDOW_S]
    decision = decide_restart(deaths_s)
    if len(recent) > len(DELAYS_S):
        assert decision == GiveUp(deaths=len(recent))
    else:
        assert decision == Restart(delay_s=DELAYS_S[len(recent) - 1])


@given(deaths)
def test_what_is_not_vital_is_never_given_up(deaths_s: list[float]) -> None:
    recent = [death_s for death_s in deaths_s if deaths_s[-1] - death_s < WINDOW_S]
    delays_s = (*DELAYS_S, PATIENT_DELAY_S)
    expected = Restart(delay_s=delays_s[min(len(recent), len(delays_s)) - 1])
    assert decide_restart(deaths_s, vital=False) == expected


@given(st.integers(min_value=1, max_value=200), st.floats(min_value=WINDOW_S, max_value=600))
def test_a_part_that_dies_rarely_always_comes_back_at_once(count: int, apart_s: float) -> None:
    assert decide_restart([apart_s * nth for nth in range(count)]) == Restart(delay_s=DELAYS_S[0])


@given(deaths)
def test_delays_never_shrink_while_deaths_come_fast(deaths_s: list[float]) -> None:
    fast = [deaths_s[0]]
    seen = []
    while isinstance(decision := decide_restart(fast), Restart):
        seen.append(decision.delay_s)
        fast.append(fast[-1])
    assert seen == sorted(seen)
    assert seen == list(DELAYS_S)
