"""Keys, made and ended by the real registry, and verified as a gateway would."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import jwt
import psycopg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from infermesh.registry.v1 import model_pb2, registry_service_pb2, team_pb2
from infermesh.registry.v1 import team_service_pb2 as pb

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from services.registry.operator_key import list_keys, make_key, revoke_key
from services.registry.settings import RegistrySettings
from tests.support.registry_driving import Registry, digits
from tests.support.registry_team import (
    INSIDE,
    OPERATOR,
    Follower,
    identity_of_claims,
    make_team,
    member,
    models_by,
    stranger,
    teams_by,
)
from tests.support.waiting import eventually


def channel_of(registry: Registry) -> grpc.aio.Channel:
    assert registry.channel is not None
    return registry.channel


async def claims(registry: Registry, secret: str) -> dict[str, Any]:
    """The claims of a key, checked against the registry's key set as a gateway does."""
    body = await teams_by(channel_of(registry), stranger()).GetKeySet(pb.GetKeySetRequest())
    assert body.content_type == "application/jwk-set+json"
    by_kid = {one["kid"]: jwt.PyJWK(one) for one in json.loads(body.data)["keys"]}
    kid = jwt.get_unverified_header(secret)["kid"]
    verified: dict[str, Any] = jwt.decode(
        secret, by_kid[kid].key, algorithms=["ES256"], audience="infermesh", issuer="infermesh"
    )
    return verified


@asynccontextmanager
async def following(registry: Registry) -> AsyncIterator[Follower]:
    follower = Follower(channel_of(registry))
    task = asyncio.create_task(follower.run())
    try:
        await eventually(lambda: follower.heard, what="the first message")
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def refused(call: Any) -> Reason:
    with pytest.raises(MeshError) as failed:
        await call
    return failed.value.reason


async def test_a_key_says_what_was_asked_for_and_is_kept_nowhere(
    registry: Registry, settings: RegistrySettings
) -> None:
    channel = channel_of(registry)
    await make_team(channel, "vision")
    await models_by(channel, member("vision", "deployer")).CreateModel(digits())
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)  # noqa: TID251 - the registry's clock
    request = pb.CreateApiKeyRequest(
        team_name="vision",
        name="camera",
        role="viewer",
        scopes=["predict", "models.read"],
        models=["digits"],
        rate_limit=team_pb2.RateLimit(requests_per_sec=5),
        request_id="wish",
    )
    request.expires_at.FromDatetime(ends)
    made = await teams_by(channel, member("vision", user="ann")).CreateApiKey(request)
    stated = await claims(registry, made.secret)
    assert stated.pop("iat") == made.api_key.created_at.seconds
    assert stated == {
        "iss": "infermesh",
        "aud": "infermesh",
        "jti": made.api_key.key_id,
        "team": "vision",
        "role": "viewer",
        "scope": "models.read predict",
        "models": "digits",
        "exp": int(ends.timestamp()),
    }
    assert (made.api_key.created_by, made.api_key.expires_at.ToDatetime(UTC)) == ("ann", ends)
    assert not made.api_key.HasField("last_used_at")
    assert await refused(teams_by(channel, member("vision")).CreateApiKey(request)) is Reason.REQUEST_ID_REUSED
    url = settings.database_url.get_secret_value().replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for table in ("api_keys", "changes", "signing_keys"):
            rows = await (await connection.execute(f"SELECT to_jsonb(t)::text FROM registry.{table} t")).fetchall()
            assert rows
            assert not any(made.secret.rsplit(".", 1)[1] in row[0] for row in rows)


async def test_a_revoked_key_is_told_to_who_follows(registry: Registry) -> None:
    channel = channel_of(registry)
    await make_team(channel, "vision")
    admin = teams_by(channel, member("vision"))
    async with following(registry) as follower:
        made = await admin.CreateApiKey(
            pb.CreateApiKeyRequest(
                team_name="vision", name="a", role="viewer", rate_limit=team_pb2.RateLimit(requests_per_sec=2)
            )
        )
        key_id = made.api_key.key_id
        await eventually(lambda: [one.key_id for one in follower.last.key_limits] == [key_id], what="the limit")
        assert [team.name for team in follower.last.teams] == ["vision"]
        revoke = pb.RevokeApiKeyRequest(team_name="vision", key_id=key_id, reason="lost")
        ended = await admin.RevokeApiKey(revoke)
        assert ended.HasField("revoked_at")
        assert await admin.RevokeApiKey(revoke) == ended
        await eventually(lambda: list(follower.last.revoked_key_ids) == [key_id], what="the revocation")
        assert not follower.last.key_limits
        assert json.loads(follower.last.key_set)["keys"]


async def test_a_stream_that_is_open_ends_with_its_key(registry: Registry) -> None:
    channel = channel_of(registry)
    await make_team(channel, "vision")
    admin = teams_by(channel, member("vision"))
    made = await admin.CreateApiKey(pb.CreateApiKeyRequest(team_name="vision", name="a", role="viewer"))
    key_id = made.api_key.key_id
    watch = registry_service_pb2.WatchChangesRequest(model_name="digits")
    await models_by(channel, member("vision", "deployer")).CreateModel(digits())
    stream = aiter(models_by(channel, member("vision", "viewer", key_id=key_id)).WatchChanges(watch))
    async with following(registry) as follower, asyncio.timeout(30):
        assert not (await anext(stream)).HasField("change")
        await admin.RevokeApiKey(pb.RevokeApiKeyRequest(team_name="vision", key_id=key_id))
        await eventually(lambda: key_id in follower.last.revoked_key_ids, what="the revocation")
        described = registry_service_pb2.UpdateModelRequest(
            model=model_pb2.Model(name="digits", description="new"), update_mask=FieldMask(paths=["description"])
        )
        await models_by(channel, member("vision", "deployer")).UpdateModel(described)
        with pytest.raises(MeshError) as caught:
            await anext(stream)
    assert caught.value.reason is Reason.UNAUTHENTICATED


async def test_a_registered_model_is_told_with_its_team(registry: Registry) -> None:
    channel = channel_of(registry)
    await make_team(channel, "vision")
    async with following(registry) as follower:
        await models_by(channel, member("vision", "deployer")).CreateModel(digits())
        await eventually(lambda: follower.models == {"digits": ("vision", ())}, what="the model", timeout_s=10)
        assert follower.resets == 1


async def test_an_operators_first_key_is_made_once(registry: Registry) -> None:
    inside = teams_by(channel_of(registry), INSIDE)
    first = pb.CreateOperatorKeyRequest(name="first", first_only=True)
    asked = await asyncio.gather(*(inside.CreateOperatorKey(first) for _ in range(4)), return_exceptions=True)
    made = [one for one in asked if isinstance(one, pb.CreateApiKeyResponse)]
    assert len(made) == 1
    assert {one.reason for one in asked if isinstance(one, MeshError)} == {Reason.RESOURCE_IN_USE}
    stated = await claims(registry, made[0].secret)
    assert (stated["role"], stated.get("team"), stated.get("exp")) == ("platform-admin", None, None)
    again = await inside.CreateOperatorKey(pb.CreateOperatorKeyRequest(name="second"))
    assert again.api_key.key_id != made[0].api_key.key_id
    for outsider in (OPERATOR, member("vision"), stranger()):
        call = teams_by(channel_of(registry), outsider).CreateOperatorKey(pb.CreateOperatorKeyRequest(name="x"))
        assert await refused(call) in (Reason.PERMISSION_DENIED, Reason.UNAUTHENTICATED)


async def test_operators_end_each_others_keys_and_nobody_else_sees_them(registry: Registry) -> None:
    channel = channel_of(registry)
    await make_team(channel, "vision")
    made = await teams_by(channel, INSIDE).CreateOperatorKey(pb.CreateOperatorKeyRequest(name="leaked"))
    key_id = made.api_key.key_id
    operator, list_of, end = teams_by(channel, OPERATOR), pb.ListApiKeysRequest(), pb.RevokeApiKeyRequest(key_id=key_id)
    assert [one.key_id for one in (await operator.ListApiKeys(list_of)).api_keys] == [key_id]
    for outsider in (member("vision"), stranger("eve")):
        others = teams_by(channel, outsider)
        for call in (
            others.ListApiKeys(list_of),
            others.RevokeApiKey(end),
            others.GetApiKey(pb.GetApiKeyRequest(key_id=key_id)),
        ):
            assert await refused(call) is Reason.PERMISSION_DENIED
    assert not (await operator.GetApiKey(pb.GetApiKeyRequest(key_id=key_id))).HasField("revoked_at")
    assert await refused(operator.RevokeApiKey(pb.RevokeApiKeyRequest(key_id="none"))) is Reason.KEY_NOT_FOUND
    async with following(registry) as follower:
        assert (await operator.RevokeApiKey(end)).HasField("revoked_at")
        await eventually(lambda: list(follower.last.revoked_key_ids) == [key_id], what="the revocation")


async def test_an_operators_key_is_listed_and_ended_from_the_machine(registry: Registry) -> None:
    assert registry.address
    clock = SystemClock()
    await make_key(registry.address, "lost", days=0, tls_dir="", clock=clock)
    [line] = await list_keys(registry.address, tls_dir="")
    key_id, name, ends, state = line.split("\t")
    assert (name, ends, state) == ("lost", "never", "in force")
    await revoke_key(registry.address, key_id, tls_dir="")
    [line] = await list_keys(registry.address, tls_dir="")
    assert line.split("\t")[3] == "revoked"


async def test_the_signing_key_outlives_the_registry_and_is_only_its_own(
    registry: Registry, settings: RegistrySettings
) -> None:
    made = await teams_by(channel_of(registry), INSIDE).CreateOperatorKey(pb.CreateOperatorKeyRequest(name="kept"))
    path = settings.data_dir / "keys" / "signing.pem"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    await registry.stop()
    await registry.start()
    assert (await claims(registry, made.secret))["jti"] == made.api_key.key_id
    # A new signing key: the old one's keys go on being taken, new ones are signed with the new one.
    await registry.stop()
    path.rename(path.with_suffix(".old"))
    await registry.start()
    assert (await claims(registry, made.secret))["jti"] == made.api_key.key_id
    other = await teams_by(channel_of(registry), INSIDE).CreateOperatorKey(pb.CreateOperatorKeyRequest(name="new"))
    kids = {jwt.get_unverified_header(one.secret)["kid"] for one in (made, other)}
    assert len(kids) == 2


def test_identities_are_those_of_claims() -> None:
    assert identity_of_claims({"role": "viewer", "jti": "k", "team": "vision", "scope": "predict"}) == Identity(
        team="vision", role="viewer", key_id="k", scopes=frozenset({"predict"})
    )
