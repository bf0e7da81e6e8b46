"""The life of the keys by which teams' replicas fetch, in virtual time."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from services.common.body import Body, namespace_of, table, text
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.operator.domain.fetch_key import FetchKey, key_in
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.manifests.team import ReplicaDefaults, Team
from services.operator.engines.fetch_keys import FetchKeyKeeper
from services.operator.engines.teams import TeamKeeper
from tests.support.operator_site import KnownTeams, PlayedFetchKeys

pytestmark = pytest.mark.looptime
DAY_S = 86_400.0
VISION, SEARCH = Team("vision", "vision"), Team("search", "search-models")


@dataclass
class Namespaces:
    """A `Cluster`, as far as Secrets go. `refusal`: what it says to the next apply that is meant."""

    secrets: dict[str, Body] = field(default_factory=dict)
    applied: list[tuple[str, str]] = field(default_factory=list)
    refusal: MeshError | None = None
    closed: set[str] = field(default_factory=set)

    async def named(self, kind: str, name: str) -> Sequence[Body]:
        assert (kind, name) == ("Secret", "infermesh-fetch")
        return list(self.secrets.values())

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Body:
        if namespace_of(manifest) in self.closed:
            raise MeshError(Reason.CLUSTER_REFUSED, "no room")
        if dry_run:
            return manifest
        if self.refusal is not None:
            refusal, self.refusal = self.refusal, None
            raise refusal
        self.applied.append((text(manifest, "kind"), namespace_of(manifest)))
        if manifest["kind"] == "Secret":
            self.secrets[namespace_of(manifest)] = manifest
        return manifest

    async def apply_status(self, manifest: Manifest) -> Body:
        raise AssertionError(manifest)

    async def annotate(self, body: Body, annotations: Mapping[str, str | None]) -> Body:
        raise AssertionError(body, annotations)

    async def delete(self, body: Body) -> None:
        raise AssertionError(body)

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> Sequence[Body]:
        raise AssertionError(namespace, labels)

    async def record_event(self, about: Body, *, kind: str, reason: str, message: str) -> None:
        raise AssertionError(about, kind, reason, message)


@dataclass
class Place:
    """A keeper, and whom it asks."""

    cluster: Namespaces = field(default_factory=Namespaces)
    keys: PlayedFetchKeys = field(default_factory=PlayedFetchKeys)
    authorities: str = ""
    clock: LoopClock = field(default_factory=lambda: LoopClock(datetime(2026, 1, 1, tzinfo=UTC)))

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Somebody else works now, who remembers nothing."""
        self.keeper = FetchKeyKeeper(
            keys=self.keys, cluster=self.cluster, clock=self.clock, life=timedelta(days=7), authorities=self.read
        )

    async def read(self) -> str:
        return self.authorities

    def key(self, team: Team = VISION) -> FetchKey:
        found = key_in(self.cluster.secrets[team.namespace], team)
        assert found is not None
        return found


async def test_each_team_gets_a_key_and_the_next_operator_takes_it_over() -> None:
    place = Place()
    await place.keeper.keep([VISION, SEARCH])
    assert place.keys.teams == ["vision", "search"]
    assert place.key(VISION).secret == "secret-1-of-vision"
    assert place.key(SEARCH).ends_at == place.clock.now() + timedelta(days=7)
    place.restart()
    await place.keeper.keep([VISION, SEARCH])
    assert len(place.keys.made) == 2
    assert len(place.cluster.applied) == 2, "what is as it should be is not applied again"


async def test_it_is_renewed_before_it_ends_and_the_old_one_lives_on_for_who_fetches_now() -> None:
    place = Place()
    await place.keeper.keep([VISION])
    seen: list[str] = []
    for _ in range(20):
        await asyncio.sleep(DAY_S)
        await place.keeper.keep([VISION])
        assert place.key().ends_at - place.clock.now() > timedelta(days=3)
        seen.append(place.key().key_id)
    assert [key_id for at, key_id in enumerate(seen) if at == 0 or seen[at - 1] != key_id] == [
        f"key-{number}" for number in range(1, len(place.keys.made) + 1)
    ]
    assert len(place.keys.made) == 6
    assert not place.keys.gone


async def test_what_is_gone_revoked_or_changed_is_made_anew() -> None:
    place = Place()
    await place.keeper.keep([VISION])
    place.keys.gone.add("key-1")
    await place.keeper.keep([VISION])
    assert place.key().key_id == "key-2"
    del place.cluster.secrets["vision"]
    await place.keeper.keep([VISION])
    assert place.key().key_id == "key-3"
    place.cluster.secrets["vision"] = {**place.cluster.secrets["vision"], "data": {"api-key": "bm9uZQ=="}}
    await place.keeper.keep([VISION])
    assert place.key().key_id == "key-4"


async def test_other_authorities_come_to_the_same_key() -> None:
    place = Place(authorities="old")
    await place.keeper.keep([VISION])
    place.authorities = "new"
    await place.keeper.keep([VISION])
    assert place.key().key_id == "key-1"
    assert table(place.cluster.secrets["vision"], "data")["ca.crt"] == "bmV3"


async def test_whatever_deletes_it_again_and_again_does_not_use_up_the_keys_of_the_team() -> None:
    place = Place()
    for _ in range(60):
        place.cluster.secrets.clear()
        await place.keeper.keep([VISION])
        await asyncio.sleep(30)
    assert len(place.keys.made) == 5
    await asyncio.sleep(3600)
    await place.keeper.keep([VISION])
    assert place.key().key_id == "key-6"


async def test_where_the_cluster_refuses_no_key_is_made_and_others_get_theirs() -> None:
    place = Place()
    place.cluster.closed.add("vision")
    await place.keeper.keep([VISION, SEARCH])
    assert place.keys.teams == ["search"]


async def test_a_key_that_could_not_be_stored_is_revoked() -> None:
    place = Place()
    place.cluster.refusal = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "away", retry_after_s=1.0)
    with pytest.raises(MeshError, match="away"):
        await place.keeper.keep([VISION])
    assert place.keys.gone == {"key-1"}
    await place.keeper.keep([VISION])
    assert place.key().key_id == "key-2"


async def test_a_namespace_that_two_teams_claim_is_given_to_neither() -> None:
    place = Place()
    teams = KnownTeams([Team("a_b", "a-b"), Team("a-b", "a-b"), VISION, SEARCH])
    keeper = TeamKeeper(
        teams=teams,
        cluster=place.cluster,
        clock=place.clock,
        defaults=ReplicaDefaults(),
        mesh_namespace="infermesh",
        period_s=30,
        renew_s=600,
        keys=place.keeper,
        namespaces=["a-b", "vision"],
    )
    await keeper.keep()
    assert place.keys.teams == ["vision"]
    assert {namespace for kind, namespace in place.cluster.applied if kind != "Namespace"} == {"vision"}
