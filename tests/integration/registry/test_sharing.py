"""Models that are shared, given away and limited, at the real registry."""

import asyncio
from collections.abc import Awaitable

import grpc
import psycopg
import pytest
from infermesh.registry.v1 import model_pb2, team_pb2
from infermesh.registry.v1 import registry_service_pb2 as rpb
from infermesh.registry.v1 import team_service_pb2 as pb

from services.common.errors import MeshError, Reason
from services.registry.settings import RegistrySettings
from tests.support.registry_driving import NEW, OLD, Registry, digits
from tests.support.registry_team import INSIDE, OPERATOR, make_team, member, models_by, stranger, teams_by

GET = rpb.GetModelRequest(model_name="digits")


async def refused(call: Awaitable[object]) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await call
    return caught.value


@pytest.fixture
async def channel(registry: Registry) -> grpc.aio.Channel:
    """Two teams, of which vision owns digits."""
    assert registry.channel is not None
    for team in ("vision", "fraud", "other"):
        await make_team(registry.channel, team)
    await models_by(registry.channel, member("vision", "deployer")).CreateModel(digits())
    return registry.channel


async def test_a_shared_model_is_read_and_not_changed(channel: grpc.aio.Channel) -> None:
    owner, fraud, other = (models_by(channel, member(team)) for team in ("vision", "fraud", "other"))
    hidden = await refused(fraud.GetModel(GET))
    absent = await refused(fraud.GetModel(rpb.GetModelRequest(model_name="nosuch")))
    assert hidden.reason is Reason.MODEL_NOT_FOUND
    assert hidden.message.replace("digits", "nosuch") == absent.message
    shared = await owner.ShareModel(rpb.ShareModelRequest(model_name="digits", team="fraud"))
    assert shared.shared_with == ["fraud"]
    assert (await owner.ShareModel(rpb.ShareModelRequest(model_name="digits", team="fraud"))).shared_with == ["fraud"]
    assert (await fraud.GetModel(GET)).team == "vision"
    assert [one.name for one in (await fraud.ListModels(rpb.ListModelsRequest())).models] == ["digits"]
    assert len((await fraud.SearchModels(rpb.SearchModelsRequest())).versions) == 1
    assert (await fraud.GetModelVersion(rpb.GetModelVersionRequest(model_name="digits", version=OLD))).version == OLD
    for call in (
        fraud.SetStage(rpb.SetStageRequest(model_name="digits", version=OLD, stage="archived")),
        fraud.SetAlias(rpb.SetAliasRequest(model_name="digits", alias="best", version=OLD)),
        fraud.UpdateModel(rpb.UpdateModelRequest(model=model_pb2.Model(name="digits", description="mine"))),
        fraud.ShareModel(rpb.ShareModelRequest(model_name="digits", team="other")),
        fraud.TransferModel(rpb.TransferModelRequest(model_name="digits", team="fraud")),
        fraud.CreateModel(digits(NEW)),
    ):
        assert (await refused(call)).reason is Reason.PERMISSION_DENIED
    assert (await refused(other.GetModel(GET))).reason is Reason.MODEL_NOT_FOUND
    assert (await refused(other.SetStage(rpb.SetStageRequest(model_name="digits", version=OLD)))).reason in (
        Reason.MODEL_NOT_FOUND,
        Reason.INVALID_FIELD,
    )
    # Who sees it by sharing does not learn who else does.
    await owner.ShareModel(rpb.ShareModelRequest(model_name="digits", team="other"))
    assert (await fraud.GetModel(GET)).shared_with == ["fraud"]
    assert (await owner.GetModel(GET)).shared_with == ["fraud", "other"]
    unshared = await owner.UnshareModel(rpb.UnshareModelRequest(model_name="digits", team="fraud"))
    assert unshared.shared_with == ["other"]
    assert (await refused(fraud.GetModel(GET))).reason is Reason.MODEL_NOT_FOUND


async def test_only_admins_of_the_owner_share(channel: grpc.aio.Channel) -> None:
    share = rpb.ShareModelRequest(model_name="digits", team="fraud")
    for caller in (member("vision", "deployer"), member("vision", scopes=frozenset({"models.write"}))):
        assert (await refused(models_by(channel, caller).ShareModel(share))).reason is Reason.PERMISSION_DENIED
    owner = models_by(channel, member("vision"))
    for team, reason in (
        ("nosuch", Reason.TEAM_NOT_FOUND),
        ("vision", Reason.INVALID_FIELD),
        ("", Reason.INVALID_FIELD),
    ):
        assert (await refused(owner.ShareModel(rpb.ShareModelRequest(model_name="digits", team=team)))).reason is reason
    assert (await models_by(channel, OPERATOR).ShareModel(share)).shared_with == ["fraud"]


async def test_a_key_for_some_models_sees_these_alone(channel: grpc.aio.Channel) -> None:
    await models_by(channel, member("vision", "deployer")).CreateModel(digits(name="numbers"))
    limited = models_by(channel, member("vision", models=frozenset({"numbers"})))
    assert [one.name for one in (await limited.ListModels(rpb.ListModelsRequest())).models] == ["numbers"]
    assert (await refused(limited.GetModel(GET))).reason is Reason.MODEL_NOT_FOUND
    assert len((await limited.SearchModels(rpb.SearchModelsRequest())).versions) == 1
    everything = models_by(channel, OPERATOR)
    assert len((await everything.ListModels(rpb.ListModelsRequest())).models) == 2


async def test_who_is_nobody_sees_nothing(channel: grpc.aio.Channel) -> None:
    await models_by(channel, INSIDE).CreateModel(digits(name="open"))
    for caller in (stranger(), stranger("ann")):
        for call in (
            models_by(channel, caller).ListModels(rpb.ListModelsRequest()),
            models_by(channel, caller).GetModel(rpb.GetModelRequest(model_name="open")),
            models_by(channel, caller).CreateModel(digits(name="mine")),
        ):
            assert (await refused(call)).reason in (Reason.UNAUTHENTICATED, Reason.PERMISSION_DENIED)
    # A model of nobody is everybody's to read and the operators' to change.
    fraud = models_by(channel, member("fraud"))
    assert (await fraud.GetModel(rpb.GetModelRequest(model_name="open"))).team == ""
    assert (await refused(fraud.CreateModel(digits(NEW, name="open")))).reason is Reason.PERMISSION_DENIED
    assert (await models_by(channel, OPERATOR).CreateModel(digits(NEW, name="open"))).version == NEW


async def test_a_model_is_given_away_with_all_that_is_its(
    channel: grpc.aio.Channel, settings: RegistrySettings
) -> None:
    owner, fraud = models_by(channel, member("vision")), models_by(channel, member("fraud"))
    await owner.ShareModel(rpb.ShareModelRequest(model_name="digits", team="fraud"))
    await owner.ShareModel(rpb.ShareModelRequest(model_name="digits", team="other"))
    given = await owner.TransferModel(rpb.TransferModelRequest(model_name="digits", team="fraud"))
    assert (given.team, list(given.shared_with)) == ("fraud", ["other"])
    assert (await refused(owner.GetModel(GET))).reason is Reason.MODEL_NOT_FOUND
    assert (await fraud.CreateModel(digits(NEW))).version == NEW
    uses = (await teams_by(channel, INSIDE).ListStorage(pb.ListStorageRequest())).uses
    assert [(one.team, one.model_name) for one in uses] == [("fraud", "digits")]
    assert uses[0].stored_bytes > 1000
    url = settings.database_url.get_secret_value().replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await connection.execute(
            "SELECT action, actor, before, after FROM registry.changes WHERE resource_type = 'model'"
            " AND action IN ('shared', 'transferred') ORDER BY id"
        )
        noted = await rows.fetchall()
    assert [row[:2] for row in noted] == [
        ("shared", "admin-of-vision"),
        ("shared", "admin-of-vision"),
        ("transferred", "admin-of-vision"),
    ]
    assert noted[2][2:] == (
        {"team": "vision", "shared_with": ["fraud", "other"]},
        {"team": "fraud", "shared_with": ["other"]},
    )


async def test_a_team_registers_no_more_than_its_quota(channel: grpc.aio.Channel) -> None:
    operator, deployer = teams_by(channel, OPERATOR), models_by(channel, member("vision", "deployer"))
    update = pb.UpdateTeamRequest(team=team_pb2.Team(name="vision"))
    update.team.resource_quota.models = 1
    await operator.UpdateTeam(update)
    assert (await deployer.CreateModel(digits(NEW))).version == NEW
    error = await refused(deployer.CreateModel(digits(name="second")))
    assert (error.reason, error.retry_after_s) == (Reason.QUOTA_EXCEEDED, None)
    assert error.metadata == {"team": "vision", "limit": "models", "value": "1", "used": "1"}
    update.team.resource_quota.models = 5
    update.team.resource_quota.artifact_bytes = 10
    await operator.UpdateTeam(update)
    # The same bytes are stored once, and the same registration is no new one.
    assert (await deployer.CreateModel(digits(OLD, name="second"))).version == OLD
    assert (await deployer.CreateModel(digits(NEW))).version == NEW
    await models_by(channel, member("fraud")).CreateModel(digits(name="theirs"))
    small = team_pb2.Team(name="other", resource_quota=team_pb2.ResourceQuota(artifact_bytes=10))
    await operator.UpdateTeam(pb.UpdateTeamRequest(team=small))
    error = await refused(models_by(channel, member("other")).CreateModel(digits(name="third")))
    assert (error.reason, error.metadata["limit"]) == (Reason.QUOTA_EXCEEDED, "artifact_bytes")
    transfer = rpb.TransferModelRequest(model_name="theirs", team="other")
    error = await refused(models_by(channel, member("fraud")).TransferModel(transfer))
    assert (error.reason, error.metadata["team"]) == (Reason.QUOTA_EXCEEDED, "other")


async def test_of_many_models_at_once_no_more_are_made_than_the_quota_allows(channel: grpc.aio.Channel) -> None:
    small = team_pb2.Team(name="other", resource_quota=team_pb2.ResourceQuota(models=3))
    await teams_by(channel, OPERATOR).UpdateTeam(pb.UpdateTeamRequest(team=small))
    caller = models_by(channel, member("other"))
    asked = await asyncio.gather(
        *(caller.CreateModel(digits(name=f"m{number}")) for number in range(8)), return_exceptions=True
    )
    reasons = [one.reason for one in asked if isinstance(one, MeshError)]
    assert reasons == [Reason.QUOTA_EXCEEDED] * 5
    assert len((await caller.ListModels(rpb.ListModelsRequest())).models) == 3


async def test_a_team_with_models_stays(channel: grpc.aio.Channel) -> None:
    error = await refused(teams_by(channel, OPERATOR).DeleteTeam(pb.DeleteTeamRequest(team_name="vision")))
    assert (error.reason, error.metadata["models"]) == (Reason.RESOURCE_IN_USE, "1")
