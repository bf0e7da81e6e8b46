"""However an Envoy asks, answers, refuses and breaks off, it ends up with what was published last, told no more than
it lacks."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from meshxds.envoy.service.discovery.v3 import discovery_pb2

from services.router.adapters.envoy.resources import ROUTES, ResourceSet, resource_set, serialised
from services.router.adapters.envoy.subscriptions import Subscriptions

NAMES = "abcd"
BAD = 0
RESPONSES_MAX = 8

Table = dict[str, int]
"""What each resource says; it is `BAD` where Envoys refuse it."""


def published(revision: int, table: Table) -> ResourceSet:
    return resource_set([serialised(name, f"{name}{said}".encode()) for name, said in table.items()], revision=revision)


@dataclass
class PlayedEnvoy:
    """By the rules of state of the world: takes one resource after the other, and refuses at the first bad one."""

    wants: set[str]
    has: Table = field(default_factory=dict)
    version: str = ""
    stream: Subscriptions = field(default_factory=Subscriptions)
    nonce: str = ""
    told: list[tuple[str, int]] = field(default_factory=list)

    def dial(self) -> None:
        """Begins a new stream and says what it has."""
        self.stream, self.nonce = Subscriptions(), ""
        self.say()

    def say(self, error: str = "") -> None:
        """Asks, or answers what it was told last."""
        request = discovery_pb2.DiscoveryRequest(
            type_url=ROUTES,
            version_info=self.version,
            resource_names=sorted(self.wants),
            response_nonce=self.nonce,
        )
        if error:
            request.error_detail.message = error
        self.stream.receive(request)

    def hear(self, now: ResourceSet) -> bool:
        """Whether it is told something; at most one response waits for an answer."""
        responses = list(self.stream.due({ROUTES: now}))
        assert len(responses) <= 1
        for response in responses:
            assert list(self.stream.due({ROUTES: now})) == []
            self.nonce = response.nonce
            said = [(item.value.decode()[0], int(item.value.decode()[1:])) for item in response.resources]
            self.told += said
            for name, value in said:
                if value == BAD:
                    self.say("bad")
                    break
                self.has[name] = value
            else:
                self.version = response.version_info
                self.say()
        return bool(responses)


TABLES = st.fixed_dictionaries({name: st.integers(0, 3) for name in NAMES})
STEPS = st.lists(
    st.one_of(
        TABLES,
        st.sampled_from(NAMES),
        st.sampled_from(["hear", "dial"]),
    ),
    max_size=25,
)
GOOD = st.fixed_dictionaries({name: st.integers(1, 3) for name in NAMES})


@settings(max_examples=300)
@given(GOOD, STEPS, GOOD)
def test_in_the_end_it_has_all_that_was_published_last(begun: Table, steps: list[Table | str], last: Table) -> None:
    envoy = PlayedEnvoy(wants={"a"})
    envoy.dial()
    revision, now = 1, published(1, begun)
    for step in steps:
        if isinstance(step, dict):
            revision += 1
            now = published(revision, step)
        elif step == "hear":
            envoy.hear(now)
        elif step == "dial":
            envoy.dial()
        else:
            envoy.wants.add(step)
            envoy.say()
    now = published(revision + 1, last)
    envoy.wants |= set(NAMES)
    envoy.say()
    heard = 0
    while envoy.hear(now):
        heard += 1
        assert heard < RESPONSES_MAX
    assert envoy.has == last
    assert envoy.version == now.version
    assert envoy.stream.answered(now.version)
    assert (envoy.stream.revision, envoy.stream.error_message) == (revision + 1, "")


@given(st.sets(st.sampled_from(NAMES)), st.lists(TABLES, max_size=4), GOOD, st.booleans())
def test_what_it_refuses_for_good_keeps_nothing_else_from_it(
    bad: set[str], tables: list[Table], last: Table, dials: bool
) -> None:
    envoy = PlayedEnvoy(wants=set(NAMES))
    envoy.dial()
    final = {name: BAD if name in bad else said for name, said in last.items()}
    for revision, table in enumerate([*tables, final, {**final, "d": final["d"]}], start=1):
        now = published(revision, table)
        heard = 0
        while envoy.hear(now):
            heard += 1
            assert heard < RESPONSES_MAX
        assert envoy.stream.answered(now.version)
        if dials:
            envoy.dial()
    assert {name: said for name, said in envoy.has.items() if name not in bad} == {
        name: said for name, said in final.items() if name not in bad
    }
    if not dials:
        assert (envoy.stream.error_message != "") == bool(bad)


@given(GOOD, st.lists(GOOD, max_size=6))
def test_it_is_told_only_what_it_does_not_have(begun: Table, later: list[Table]) -> None:
    envoy = PlayedEnvoy(wants=set(NAMES))
    envoy.dial()
    for revision, table in enumerate([begun, *later], start=1):
        had = dict(envoy.has)
        envoy.told.clear()
        now = published(revision, table)
        assert envoy.hear(now)
        assert envoy.told == [(name, said) for name, said in table.items() if had.get(name) != said]
        # It breaks off and says what it has: nothing is told again.
        envoy.dial()
        assert not envoy.hear(now)
