"""What counts as idle, and as wanted."""

import pytest

from services.common.signals import Signal
from services.deployer.domain.scaling import Load
from services.deployer.engines.demand import GONE_S, SILENT_S, WANTED_S, Demand
from tests.support.clock import FakeClock

IRIS, ROSE = ("iris", "v1.0.0"), ("rose", "v1.0.0")


class World:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.changed = Signal()
        self.demand = Demand(clock=self.clock, changed=self.changed)
        self.demand.keep({IRIS, ROSE})

    def after(self, seconds: float) -> "World":
        self.clock.advance(seconds)
        return self

    def tell(self, *asked: tuple[str, str], by: str = "batcher-0", window_s: float = 2.0) -> None:
        self.demand.report(by, window_s, {name: Load(requests_per_s=1.0) for name in asked})


def test_idleness_counts_from_the_last_request_that_anybody_told_of() -> None:
    world = World()
    world.tell()
    for _ in range(10):
        world.after(10).tell(ROSE)
    assert world.demand.idle_s(IRIS) == 100
    assert world.demand.idle_s(ROSE) == 0
    assert world.after(5).demand.idle_s(ROSE) == 5


def test_nothing_is_idle_before_a_batcher_has_spoken_nor_while_one_is_silent() -> None:
    world = World()
    assert world.after(1000).demand.idle_s(IRIS) == 0
    world.tell(by="one")
    world.tell(by="two")
    for _ in range(4):
        world.after(10).tell(by="one")
    # The second may be asked for it and cannot tell.
    assert world.demand.idle_s(IRIS) == 0
    world.tell(by="two")
    assert world.after(10).demand.idle_s(IRIS) == 10
    world.after(GONE_S + 1)
    world.demand.keep({IRIS})
    world.tell(by="one")
    assert world.after(20).demand.idle_s(IRIS) == 20


def test_within_two_windows_nothing_is_idle() -> None:
    world = World()
    world.tell(IRIS, window_s=4)
    assert world.after(7.9).demand.idle_s(IRIS) == 0
    assert world.after(0.2).demand.idle_s(IRIS) == pytest.approx(8.1)


def test_a_name_that_is_new_or_just_awake_is_idle_from_now_on() -> None:
    world = World()
    world.tell()
    world.after(20).demand.keep({IRIS, ROSE, ("new", "v1.0.0")})
    world.demand.awake(ROSE)
    world.tell()
    world.after(5)
    assert [world.demand.idle_s(name) for name in (IRIS, ROSE, ("new", "v1.0.0"))] == [25, 5, 5]
    assert world.after(SILENT_S).demand.idle_s(IRIS) == 0


def test_who_waits_says_so_again_and_is_heard_at_once_the_first_time() -> None:
    world = World()
    heard = world.changed.current
    world.demand.want(IRIS)
    assert heard.is_set()
    assert world.demand.wanted(IRIS)
    heard = world.changed.current
    world.after(WANTED_S / 2).demand.want(IRIS)
    assert not heard.is_set()
    assert world.after(WANTED_S).demand.wanted(IRIS)
    assert not world.after(0.1).demand.wanted(IRIS)
    world.demand.want(IRIS)
    world.demand.awake(IRIS)
    assert not world.demand.wanted(IRIS)
    world.demand.want(IRIS)
    world.demand.keep({ROSE})
    assert not world.demand.wanted(IRIS)
