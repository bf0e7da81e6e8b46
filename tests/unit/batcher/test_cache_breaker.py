"""How long a helper that fails is left alone."""

from services.batcher.domain.breaker import Breaker


def test_it_begins_open_until_the_first_probe() -> None:
    breaker = Breaker()
    assert breaker.open
    breaker.probed()
    assert not breaker.open


def test_each_failure_doubles_the_time_up_to_ten_seconds() -> None:
    breaker = Breaker()
    now_s, delays = 0.0, []
    for _ in range(12):
        delays.append(breaker.failed(now_s))
        now_s += delays[-1]
    assert breaker.open
    assert delays[:4] == [0.05, 0.1, 0.2, 0.4]
    assert delays[-3:] == [10.0, 10.0, 10.0]


def test_a_probe_that_succeeds_does_not_make_failures_forgotten() -> None:
    breaker = Breaker()
    breaker.failed(0.0)
    breaker.probed()
    assert breaker.failed(29.0) == 0.1


def test_thirty_calm_seconds_do() -> None:
    breaker = Breaker()
    for _ in range(9):
        breaker.failed(0.0)
    breaker.probed()
    assert breaker.failed(30.1) == 0.05


def test_years_of_failures_do_not_overflow() -> None:
    breaker = Breaker()
    assert [breaker.failed(0.0) for _ in range(3000)][-1] == 10.0
