"""What every `TeamBook`, `KeyBook`, `SigningKeys`, `SharingBook` and `AccessSource` promises."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.registry.adapters.access_source import PostgresAccessSource
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.postgres_keys import PostgresKeyBook
from services.registry.adapters.postgres_keys_signing import PostgresSigningKeys
from services.registry.adapters.postgres_teams import PostgresTeamBook
from services.registry.adapters.postgres_teams_sharing import PostgresSharingBook
from services.registry.domain.access import Author, ModelAccess
from services.registry.domain.jwk import PublicKey
from services.registry.domain.keys import ApiKey, Kind, NewKey
from services.registry.domain.quotas import RateLimit, ResourceQuota
from services.registry.domain.teams import NewTeam, Team, TeamTerms
from services.registry.ports_teams import AccessSource, KeyBook, SharingBook, SigningKeys, TeamBook
from tests.support.clock import NOON, FakeClock
from tests.support.registry_team_fakes import MemoryKeyBook, MemoryTeams

ANN = Author("ann", "vision", "request-1")
SIGNER = PublicKey("eA", "eQ")
HOUR = timedelta(hours=1)
KEYS_MAX = 8


@dataclass(frozen=True)
class Kept:
    """All ports over one set of data."""

    teams: TeamBook
    keys: KeyBook
    signing: SigningKeys
    sharing: SharingBook
    source: AccessSource
    add_model: Callable[[str, str], Awaitable[None]]
    distrust: Callable[[str], Awaitable[None]]


@pytest.fixture
async def kept(url: str) -> AsyncIterator[Kept]:
    if not url:
        memory = MemoryTeams(FakeClock())
        memory.keys_max = KEYS_MAX

        async def add(name: str, team: str) -> None:
            memory.add_model(name, team)

        async def distrust(kid: str) -> None:
            memory.distrust(kid)

        yield Kept(memory, MemoryKeyBook(memory), memory, memory, memory, add, distrust)
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=4)

    async def execute(statement: str, **values: object) -> None:
        async with engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def add_row(name: str, team: str) -> None:
        await execute(
            "INSERT INTO models (name, framework, team_id)"
            " SELECT :name, 'onnx', (SELECT id FROM teams WHERE name = :team)",
            name=name,
            team=team,
        )
        await execute(
            "INSERT INTO changes (resource_type, resource_name, model_name, action)"
            " VALUES ('model', :name, :name, 'created')",
            name=name,
        )

    async def distrust_row(kid: str) -> None:
        await execute("UPDATE signing_keys SET distrusted_at = now() WHERE kid = :kid", kid=kid)

    yield Kept(
        PostgresTeamBook(engine),
        PostgresKeyBook(engine, keys_max=KEYS_MAX),
        PostgresSigningKeys(engine),
        PostgresSharingBook(engine),
        PostgresAccessSource(engine),
        add_row,
        distrust_row,
    )
    await engine.dispose()


@pytest.fixture
async def teams(kept: Kept) -> Kept:
    """Two teams and a signing key."""
    for name in ("vision", "fraud"):
        await kept.teams.create(NewTeam(name, name), author=ANN)
    await kept.signing.publish(SIGNER, now=NOON)
    return kept


def new_key(key_id: str, **change: Any) -> NewKey:
    made = NewKey(
        key_id=key_id,
        kind=Kind.KEY,
        team="vision",
        name="camera",
        role="viewer",
        created_at=NOON,
        signed_by=SIGNER.kid,
    )
    return replace(made, **change)


def token(key_id: str, role: str, **change: Any) -> NewKey:
    return new_key(key_id, kind=Kind.TOKEN, role=role, user="ann", expires_at=NOON + HOUR, **change)


async def refused(call: Awaitable[object]) -> Reason:
    with pytest.raises(MeshError) as caught:
        await call
    return caught.value.reason


async def revoked(kept: Kept, now: datetime = NOON) -> tuple[str, ...]:
    head = (await kept.source.whole(now=now)).head
    assert head is not None
    return head.revoked


async def found(kept: Kept, name: str) -> Team:
    team = await kept.teams.team(name)
    assert team is not None
    return team


async def test_a_team_is_what_was_asked_for(kept: Kept) -> None:
    terms = TeamTerms(
        description="sees",
        resource_quota=ResourceQuota(cpu="64", memory="256Gi", gpu=2, models=0, artifact_bytes=1e12),
        rate_limit=RateLimit(100, 200),
        require_signature=True,
        trusted_signers=("ann@example.com",),
    )
    made = await kept.teams.create(NewTeam("vision", "ns-vision", terms, "wish"), author=ANN)
    assert (made.name, made.namespace, made.terms, made.revision) == ("vision", "ns-vision", terms, 1)
    assert await kept.teams.team("vision") == made
    assert await kept.teams.team("fraud") is None
    assert await kept.teams.create(NewTeam("vision", "ns-vision", terms, "wish"), author=ANN) == made
    assert await refused(kept.teams.create(NewTeam("vision", "other", terms), author=ANN)) is Reason.TEAM_EXISTS
    assert await refused(kept.teams.create(NewTeam("other", "ns-vision"), author=ANN)) is Reason.TEAM_EXISTS
    again = kept.teams.create(NewTeam("other", "other", TeamTerms(), "wish"), author=ANN)
    assert await refused(again) is Reason.REQUEST_ID_REUSED


async def test_of_two_changes_from_one_revision_one_is_made(teams: Kept) -> None:
    read = await found(teams, "vision")
    wanted = [replace(read, terms=TeamTerms(description=text)) for text in ("one", "two")]
    made = await asyncio.gather(*(teams.teams.change(one, author=ANN) for one in wanted))
    assert [one is None for one in made].count(True) == 1
    changed = await found(teams, "vision")
    assert (changed, changed.revision) == (next(one for one in made if one is not None), 2)
    assert changed.etag != read.etag
    assert not await teams.teams.delete(read, author=ANN, now=NOON)
    assert await teams.teams.delete(changed, author=ANN, now=NOON)
    assert await teams.teams.team("vision") is None


async def test_teams_and_members_come_in_alphabetical_order(teams: Kept) -> None:
    assert [one.name for one in await teams.teams.teams(among=None, after="", limit=9)] == ["fraud", "vision"]
    assert [one.name for one in await teams.teams.teams(among=None, after="fraud", limit=9)] == ["vision"]
    assert [one.name for one in await teams.teams.teams(among=["vision", "none"], after="", limit=9)] == ["vision"]
    for user in ("zoe", "Ann", "bob"):
        await teams.teams.set_member("vision", user, "viewer", author=ANN, now=NOON)
    assert [one.user for one in await teams.teams.members("vision", after="", limit=2)] == ["Ann", "bob"]
    assert [one.user for one in await teams.teams.members("vision", after="bob", limit=2)] == ["zoe"]
    assert await teams.teams.members("fraud", after="", limit=2) == []
    assert await teams.teams.teams_of("zoe") == ["vision"]


async def test_whoever_loses_a_role_loses_their_tokens(teams: Kept) -> None:
    set_role = teams.teams.set_member
    await set_role("vision", "ann", "deployer", author=ANN, now=NOON)
    await set_role("fraud", "ann", "deployer", author=ANN, now=NOON)
    await teams.keys.create(token("t1", "deployer"), author=ANN)
    await teams.keys.create(token("t2", "deployer", team="fraud"), author=ANN)
    await teams.keys.create(new_key("k1", created_by="ann"), author=ANN)
    await set_role("vision", "ann", "admin", author=ANN, now=NOON)
    assert await revoked(teams) == ()
    assert (await set_role("vision", "ann", "viewer", author=ANN, now=NOON)).role == "viewer"
    assert await revoked(teams) == ("t1",)
    assert await refused(teams.keys.create(token("t3", "deployer"), author=ANN)) is Reason.TEAM_NOT_FOUND
    await teams.keys.create(token("t4", "viewer"), author=ANN)
    assert await teams.teams.delete_member("vision", "ann", author=ANN, now=NOON)
    assert not await teams.teams.delete_member("vision", "ann", author=ANN, now=NOON)
    assert await teams.teams.member("vision", "ann") is None
    assert await revoked(teams) == ("t1", "t4")
    assert await refused(teams.keys.create(token("t5", "viewer"), author=ANN)) is Reason.TEAM_NOT_FOUND
    assert await revoked(teams, NOON + 2 * HOUR) == ()


async def test_keys_outlive_their_team_as_refused(teams: Kept) -> None:
    await teams.keys.create(new_key("k1"), author=ANN)
    await teams.add_model("iris", "vision")
    vision = await found(teams, "vision")
    assert await refused(teams.teams.delete(vision, author=ANN, now=NOON)) is Reason.RESOURCE_IN_USE
    await teams.sharing.transfer("iris", "fraud", owner="vision", author=ANN)
    await teams.sharing.share("iris", "vision", owner="fraud", author=ANN)
    seen = await teams.source.whole(now=NOON)
    assert await teams.teams.delete(vision, author=ANN, now=NOON)
    changed = await teams.source.since(seen.revision, now=NOON)
    assert changed.models == {"iris": ModelAccess("fraud")}
    assert changed.head is not None
    assert ([team.name for team in changed.head.teams], changed.head.revoked) == (["fraud"], ("k1",))
    await teams.teams.create(NewTeam("vision", "vision"), author=ANN)
    assert await teams.keys.key("vision", "k1") is None
    assert await revoked(teams) == ("k1",)


async def test_keys_come_newest_first_and_end_once(teams: Kept) -> None:
    for number in range(4):
        await teams.keys.create(new_key(f"k{number}"), author=ANN)
    await teams.keys.create(new_key("f", team="fraud"), author=ANN)
    first = await teams.keys.keys("vision", before=0, limit=3)
    assert [key.key_id for key in first] == ["k3", "k2", "k1"]
    rest = await teams.keys.keys("vision", before=first[-1].number, limit=3)
    assert [key.key_id for key in rest] == ["k0"]
    ended = await teams.keys.revoke("vision", "k2", reason="lost", author=ANN, now=NOON)
    assert isinstance(ended, ApiKey)
    assert ended.revoked_at == NOON
    assert await teams.keys.revoke("vision", "k2", reason="again", author=ANN, now=NOON + HOUR) == ended
    assert await teams.keys.revoke("fraud", "k1", reason="", author=ANN, now=NOON) is None
    assert await teams.keys.key("fraud", "k1") is None
    assert await teams.keys.key("vision", "k2") == ended


async def test_operators_keys_are_of_no_team_and_end_as_others_do(teams: Kept) -> None:
    await teams.keys.create(new_key("k1"), author=ANN)
    await teams.keys.create(new_key("o1", kind=Kind.OPERATOR, team="", role="platform-admin"), author=ANN)
    assert [key.key_id for key in await teams.keys.keys("", before=0, limit=9)] == ["o1"]
    assert [key.key_id for key in await teams.keys.keys("vision", before=0, limit=9)] == ["k1"]
    assert await teams.keys.key("", "k1") is None
    assert await teams.keys.revoke("", "k1", reason="", author=ANN, now=NOON) is None
    assert await teams.keys.revoke("vision", "o1", reason="", author=ANN, now=NOON) is None
    ended = await teams.keys.revoke("", "o1", reason="leaked", author=ANN, now=NOON)
    assert ended is not None
    assert await teams.keys.key("", "o1") == ended
    assert await revoked(teams) == ("o1",)


async def test_a_team_has_no_more_keys_than_can_be_told_of(teams: Kept) -> None:
    for number in range(KEYS_MAX):
        await teams.keys.create(new_key(f"k{number}", expires_at=NOON + HOUR if number else None), author=ANN)
    await teams.keys.revoke("vision", "k0", reason="", author=ANN, now=NOON)
    # What is revoked counts until it would have ended.
    assert await refused(teams.keys.create(new_key("more"), author=ANN)) is Reason.QUOTA_EXCEEDED
    await teams.keys.create(new_key("other", team="fraud"), author=ANN)
    await teams.teams.set_member("vision", "ann", "viewer", author=ANN, now=NOON)
    await teams.keys.create(token("t", "viewer"), author=ANN)
    await teams.keys.create(new_key("later", created_at=NOON + HOUR), author=ANN)


async def test_a_wish_makes_one_key_and_models_must_be_seen(teams: Kept) -> None:
    await teams.keys.create(new_key("k1", request_id="wish"), author=ANN)
    again = teams.keys.create(new_key("k2", request_id="wish"), author=ANN)
    assert await refused(again) is Reason.REQUEST_ID_REUSED
    await teams.keys.create(new_key("k3", request_id="wish", team="fraud"), author=ANN)
    await teams.add_model("iris", "fraud")
    limited = new_key("k4", models=("iris",))
    assert await refused(teams.keys.create(limited, author=ANN)) is Reason.MODEL_NOT_FOUND
    await teams.sharing.share("iris", "vision", owner="fraud", author=ANN)
    assert (await teams.keys.create(limited, author=ANN)).models == ("iris",)
    assert await refused(teams.keys.create(new_key("k5", team="none"), author=ANN)) is Reason.TEAM_NOT_FOUND


async def test_use_is_noted_and_never_earlier(teams: Kept) -> None:
    await teams.keys.create(new_key("k1"), author=ANN)
    await teams.keys.note_use({"k1": NOON + HOUR, "nobody": NOON})
    await teams.keys.note_use({"k1": NOON})
    await teams.keys.note_use({})
    key = await teams.keys.key("vision", "k1")
    assert key is not None
    assert key.last_used_at == NOON + HOUR


async def test_signing_keys_stay_while_what_they_signed_lives(teams: Kept) -> None:
    async def kids(now: datetime) -> list[str]:
        return [one["kid"] for one in json.loads(await teams.signing.key_set(now=now))["keys"]]

    other = PublicKey("ZQ", "Zg")
    later = NOON + timedelta(days=2)
    await teams.keys.create(new_key("k1", expires_at=NOON + timedelta(days=30)), author=ANN)
    await teams.signing.publish(other, now=later)
    assert await kids(later) == sorted([SIGNER.kid, other.kid])
    assert await kids(NOON + timedelta(days=31)) == []
    await teams.keys.revoke("vision", "k1", reason="", author=ANN, now=later)
    assert await kids(later) == [other.kid]
    seen = await teams.source.whole(now=later)
    await teams.distrust(other.kid)
    assert await kids(later) == []
    changed = await teams.source.since(seen.revision, now=later)
    assert changed.head is not None
    assert json.loads(changed.head.key_set)["keys"] == []
    assert await refused(teams.signing.publish(other, now=later)) is Reason.DEPENDENCY_UNAVAILABLE
    unsigned = teams.keys.create(new_key("k2", signed_by=other.kid), author=ANN)
    assert await refused(unsigned) is Reason.DEPENDENCY_UNAVAILABLE


async def test_models_change_hands_within_quotas(teams: Kept) -> None:
    await teams.add_model("iris", "vision")
    await teams.add_model("rose", "vision")
    await teams.sharing.share("iris", "fraud", owner="vision", author=ANN)
    await teams.sharing.share("iris", "fraud", owner="vision", author=ANN)
    assert await teams.sharing.access("iris") == ModelAccess("vision", ("fraud",))
    assert await refused(teams.sharing.share("iris", "none", owner="vision", author=ANN)) is Reason.TEAM_NOT_FOUND
    assert await refused(teams.sharing.share("iris", "fraud", owner="fraud", author=ANN)) is Reason.MODEL_NOT_FOUND
    fraud = await found(teams, "fraud")
    limited = replace(fraud, terms=TeamTerms(resource_quota=ResourceQuota(models=1)))
    assert await teams.teams.change(limited, author=ANN) is not None
    await teams.sharing.transfer("iris", "fraud", owner="vision", author=ANN)
    assert await teams.sharing.access("iris") == ModelAccess("fraud")
    with pytest.raises(MeshError) as caught:
        await teams.sharing.transfer("rose", "fraud", owner="vision", author=ANN)
    assert caught.value.reason is Reason.QUOTA_EXCEEDED
    assert caught.value.metadata == {"team": "fraud", "limit": "models", "value": "1", "used": "1"}
    assert caught.value.retry_after_s is None
    await teams.sharing.unshare("rose", "fraud", owner="vision", author=ANN)
    assert await teams.sharing.access("none") is None


async def test_a_look_has_what_changed_and_no_more(teams: Kept) -> None:
    await teams.add_model("iris", "vision")
    whole = await teams.source.whole(now=NOON)
    assert (whole.models, whole.whole) == ({"iris": ModelAccess("vision")}, True)
    assert whole.head is not None
    assert [team.name for team in whole.head.teams] == ["fraud", "vision"]
    same = await teams.source.since(whole.revision, now=NOON)
    assert (same.revision, same.models, same.head) == (whole.revision, {}, None)
    await teams.add_model("rose", "")
    await teams.sharing.share("iris", "fraud", owner="vision", author=ANN)
    models = await teams.source.since(whole.revision, now=NOON)
    assert models.models == {"iris": ModelAccess("vision", ("fraud",)), "rose": ModelAccess()}
    assert models.revision > whole.revision
    assert models.head is None
    await teams.keys.create(new_key("k1", rate_limit=RateLimit(5)), author=ANN)
    keys = await teams.source.since(models.revision, now=NOON)
    assert keys.head is not None
    assert ([one.key_id for one in keys.head.limits], keys.models) == (["k1"], {})
