"""The audit log and the stream of changes, over gRPC and the real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest
from google.protobuf.json_format import MessageToDict
from infermesh.registry.v1 import change_pb2, model_pb2, registry_service_pb2

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import HEADER_KEY, HEADER_REQUEST_ID, HEADER_ROLE, HEADER_TEAM, HEADER_USER
from services.registry.settings import RegistrySettings
from tests.support.registry_driving import NEW, OLD, Registry, digits

List = registry_service_pb2.ListChangesRequest
Watch = registry_service_pb2.WatchChangesRequest
SetAlias = registry_service_pb2.SetAliasRequest
KINDS = ["model", "version", "alias"]
_DEADLINE_S = 30


def of(team: str, role: str = "deployer", **more: str) -> tuple[tuple[str, str], ...]:
    """The headers of a member."""
    return ((HEADER_TEAM, team), (HEADER_USER, "ann"), (HEADER_ROLE, role), *more.items())


async def listed(registry: Registry, **fields: object) -> Sequence[change_pb2.Change]:
    """The changes of a page that are of models; artifacts and keys have theirs, too."""
    page = await registry.calls.ListChanges(List(**fields))  # type: ignore[arg-type]
    return [one for one in page.changes if one.resource_type in KINDS]


async def taken(stream: AsyncIterator[registry_service_pb2.WatchChangesResponse], count: int) -> list[str]:
    """What the next `count` changes are, with their cursors checked to be those of the stream."""
    found: list[str] = []
    async with asyncio.timeout(_DEADLINE_S):
        while len(found) < count:
            message = await anext(stream)
            if message.HasField("change"):
                assert message.cursor == message.change.cursor
                found.append(f"{message.change.action} {message.change.resource_name}")
    return found


@pytest.fixture
async def teams(registry: Registry, settings: RegistrySettings) -> None:
    """Two teams."""
    url = settings.database_url.get_secret_value().replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for team in ("vision", "fraud"):
            await connection.execute("INSERT INTO registry.teams (name, namespace) VALUES (%s, %s)", (team, team))


async def test_every_change_says_who_and_what_was_before_and_after(registry: Registry, teams: None) -> None:
    by_ann = of("vision", **{HEADER_REQUEST_ID: "req-1"})
    made = await registry.calls.CreateModel(digits(OLD), metadata=by_ann)
    await registry.calls.SetAlias(
        SetAlias(model_name="digits", alias="champion", version=OLD, reason="tried"), metadata=by_ann
    )
    await registry.calls.SetStage(
        registry_service_pb2.SetStageRequest(model_name="digits", version=OLD, stage="active", reason="proven"),
        metadata=((HEADER_TEAM, "vision"), (HEADER_KEY, "k1"), (HEADER_ROLE, "deployer")),
    )
    model = model_pb2.Model(name="digits", model_card="# Card")
    await registry.calls.UpdateModel(registry_service_pb2.UpdateModelRequest(model=model), metadata=by_ann)
    await registry.calls.DeleteAlias(
        registry_service_pb2.DeleteAliasRequest(model_name="digits", alias="champion"), metadata=by_ann
    )
    changes = await listed(registry)
    assert [(one.resource_type, one.resource_name, one.action) for one in changes] == [
        ("alias", "digits/champion", "deleted"),
        ("model", "digits", "updated"),
        ("version", f"digits@{OLD}", "stage"),
        ("alias", "digits/champion", "created"),
        ("version", f"digits@{OLD}", "created"),
        ("model", "digits", "created"),
    ]
    gone, card, stage, pointed, registered, _ = changes
    assert (stage.actor, stage.team, stage.reason) == ("key:k1", "vision", "proven")
    assert (stage.before["stage"], stage.after["stage"]) == ("draft", "active")
    assert (pointed.actor, pointed.request_id, pointed.reason) == ("ann", "req-1", "tried")
    assert (pointed.HasField("before"), pointed.after["version"]) == (False, OLD)
    assert (gone.before["version"], gone.HasField("after")) == (OLD, False)
    assert ("model_card" in card.before, card.after["model_card"]) == (False, "# Card")
    shown = MessageToDict(made, preserving_proto_field_name=True)
    kept = MessageToDict(registered.after)
    assert {name: kept[name] for name in ("version", "artifact_digest", "training_metrics", "lineage")} == {
        name: shown[name] for name in ("version", "artifact_digest", "training_metrics", "lineage")
    }
    assert "artifact_path" not in kept


async def test_what_changes_nothing_or_fails_is_not_noted(registry: Registry) -> None:
    await registry.calls.CreateModel(digits(OLD))
    before = await listed(registry)
    await registry.calls.CreateModel(digits(OLD))
    with pytest.raises(MeshError):
        await registry.calls.CreateModel(digits(OLD, metadata={"accuracy": 0.1}))
    asked = registry_service_pb2.SetStageRequest(model_name="digits", version=OLD, stage="deprecated")
    with pytest.raises(MeshError):
        await registry.calls.SetStage(asked)
    assert await listed(registry) == before


async def test_the_log_is_read_in_pages_and_narrowed(registry: Registry, teams: None) -> None:
    await registry.calls.CreateModel(digits(OLD), metadata=of("vision"))
    await registry.calls.CreateModel(digits(OLD, name="other"), metadata=of("fraud"))
    everything = await listed(registry)
    assert len(everything) == 4
    paged: list[change_pb2.Change] = []
    token = ""
    while True:
        page = await registry.calls.ListChanges(List(page_size=3, page_token=token))
        assert len(page.changes) <= 3
        paged += [one for one in page.changes if one.resource_type in KINDS]
        token = page.next_page_token
        if not token:
            break
    assert paged == everything
    assert {one.resource_name for one in await listed(registry, team="fraud")} == {"other", f"other@{OLD}"}
    assert [one.resource_name for one in await listed(registry, resource_type="model")] == ["other", "digits"]
    assert len(await listed(registry, resource_name=f"digits@{OLD}")) == 1
    assert await listed(registry, actor="bob") == []
    middle = everything[2].time
    assert await listed(registry, end_time=middle) == everything[3:]
    assert await listed(registry, start_time=middle) == everything[:3]
    for fields, named in (
        ({"resource_type": "nothing"}, "resource_type"),
        ({"start_time": middle, "end_time": middle}, "end_time"),
    ):
        with pytest.raises(MeshError) as caught:
            await listed(registry, **fields)
        assert caught.value.violations[0].field == named


async def test_a_team_sees_its_own_changes_and_those_of_what_it_sees(registry: Registry, teams: None) -> None:
    await registry.calls.CreateModel(digits(OLD), metadata=of("vision"))
    await registry.calls.CreateModel(digits(OLD, name="other"), metadata=of("fraud"))
    await registry.calls.CreateModel(digits(OLD, name="open"))
    # An operator changes what is vision's.
    model = model_pb2.Model(name="digits", description="changed")
    await registry.calls.UpdateModel(
        registry_service_pb2.UpdateModelRequest(model=model), metadata=((HEADER_ROLE, "platform-admin"),)
    )
    page = await registry.calls.ListChanges(List(), metadata=of("vision"))
    seen = [(one.resource_name, one.action) for one in page.changes if one.resource_type in KINDS]
    assert seen == [
        ("digits", "updated"),
        (f"open@{OLD}", "created"),
        ("open", "created"),
        (f"digits@{OLD}", "created"),
        ("digits", "created"),
    ]
    stream = aiter(registry.calls.WatchChanges(Watch(cursor="0", resource_types=KINDS), metadata=of("vision")))
    assert len(await taken(stream, 5)) == 5
    await registry.calls.CreateModel(digits(NEW, name="other"), metadata=of("fraud"))
    await registry.calls.CreateModel(digits(NEW), metadata=of("vision"))
    assert await taken(stream, 1) == [f"created digits@{NEW}"]


async def test_who_had_a_name_before_does_not_see_what_others_do_with_it(
    registry: Registry, settings: RegistrySettings, teams: None
) -> None:
    await registry.calls.CreateModel(digits(OLD), metadata=of("fraud"))
    url = settings.database_url.get_secret_value().replace("postgresql+psycopg", "postgresql")
    # What is left of it where vision removed it, registered it again and gave it away.
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO registry.removed_models (id, name, team_id, removal, state)"
            " SELECT gen_random_uuid(), 'digits', id, gen_random_uuid(), 'gone' FROM registry.teams"
            " WHERE name = 'vision'"
        )
    model = model_pb2.Model(name="digits", description="fraud's own")
    await registry.calls.UpdateModel(registry_service_pb2.UpdateModelRequest(model=model), metadata=of("fraud"))
    seen = {
        team: [
            one.resource_name
            for one in (await registry.calls.ListChanges(List(), metadata=of(team))).changes
            if one.resource_type in KINDS
        ]
        for team in ("vision", "fraud")
    }
    assert seen == {"vision": [], "fraud": ["digits", f"digits@{OLD}", "digits"]}


async def test_a_follower_goes_on_where_it_stopped(registry: Registry) -> None:
    await registry.calls.CreateModel(digits(OLD))
    from_now = aiter(registry.calls.WatchChanges(Watch()))
    begun = await anext(from_now)
    assert not begun.HasField("change")
    await registry.calls.SetAlias(SetAlias(model_name="digits", alias="champion", version=OLD))
    assert await taken(from_now, 1) == ["created digits/champion"]
    everything = aiter(registry.calls.WatchChanges(Watch(cursor="0", resource_types=KINDS)))
    assert await taken(everything, 3) == ["created digits", f"created digits@{OLD}", "created digits/champion"]
    behind = aiter(registry.calls.WatchChanges(Watch(cursor=begun.cursor, resource_types=KINDS)))
    assert await taken(behind, 1) == ["created digits/champion"]
    narrowed = aiter(registry.calls.WatchChanges(Watch(cursor="0", resource_types=["alias"], model_name="digits")))
    assert await taken(narrowed, 1) == ["created digits/champion"]


@pytest.mark.parametrize("cursor", ["999999", "-1", "next", "1" * 30, "٣"])
async def test_a_cursor_that_the_log_did_not_give_out_is_refused(registry: Registry, cursor: str) -> None:
    with pytest.raises(MeshError) as caught:
        await anext(aiter(registry.calls.WatchChanges(Watch(cursor=cursor))))
    assert (caught.value.reason, caught.value.violations[0].field) == (Reason.INVALID_FIELD, "cursor")


async def test_followers_end_with_the_registry(registry: Registry) -> None:
    stream = aiter(registry.calls.WatchChanges(Watch()))
    await anext(stream)
    assert registry.lifecycle is not None
    async with asyncio.timeout(_DEADLINE_S):
        await registry.lifecycle.stop()
    registry.lifecycle = None
    with pytest.raises((MeshError, StopAsyncIteration)):
        await anext(stream)


async def test_nobody_rewrites_the_log(registry: Registry, settings: RegistrySettings) -> None:
    await registry.calls.CreateModel(digits(OLD))
    url = settings.database_url.get_secret_value().replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in (
            "UPDATE registry.changes SET actor = 'nobody'",
            "DELETE FROM registry.changes",
            "TRUNCATE registry.changes",
        ):
            with pytest.raises(psycopg.errors.RaiseException, match="only ever added to"):
                await connection.execute(statement)
    assert len(await listed(registry)) == 2
