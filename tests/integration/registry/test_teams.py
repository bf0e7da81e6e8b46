"""Teams and members at the real registry, by callers of every role."""

from collections.abc import Awaitable, Callable, Mapping

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from infermesh.registry.v1 import team_pb2
from infermesh.registry.v1 import team_service_pb2 as pb

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from tests.support.registry_driving import Registry, digits
from tests.support.registry_team import INSIDE, OPERATOR, make_team, member, models_by, stranger, teams_by

QUOTA = team_pb2.ResourceQuota(cpu="64", memory="256Gi", gpu=4, models=10)


async def refused(call: Awaitable[object]) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await call
    return caught.value


@pytest.fixture
def channel(registry: Registry) -> grpc.aio.Channel:
    assert registry.channel is not None
    return registry.channel


async def test_a_team_is_made_changed_and_removed(channel: grpc.aio.Channel) -> None:
    operator = teams_by(channel, OPERATOR)
    wish = pb.CreateTeamRequest(team=team_pb2.Team(name="vision", resource_quota=QUOTA), request_id="wish")
    made = await operator.CreateTeam(wish)
    assert (made.name, made.namespace, made.resource_quota) == ("vision", "vision", QUOTA)
    assert await operator.CreateTeam(wish) == made
    assert await operator.GetTeam(pb.GetTeamRequest(team_name="vision")) == made
    update = pb.UpdateTeamRequest(team=team_pb2.Team(name="vision", etag=made.etag, description="sees"))
    update.team.rate_limit.requests_per_sec = 100
    changed = await operator.UpdateTeam(update)
    assert (changed.description, changed.rate_limit.requests_per_sec, changed.resource_quota) == ("sees", 100, QUOTA)
    assert (await refused(operator.UpdateTeam(update))).reason is Reason.ETAG_MISMATCH
    part = pb.UpdateTeamRequest(
        team=team_pb2.Team(name="vision"), update_mask=FieldMask(paths=["resource_quota.gpu", "description"])
    )
    cleared = await operator.UpdateTeam(part)
    assert (cleared.resource_quota.HasField("gpu"), cleared.resource_quota.cpu, cleared.description) == (
        False,
        "64",
        "",
    )
    old = pb.DeleteTeamRequest(team_name="vision", etag=made.etag)
    assert (await refused(operator.DeleteTeam(old))).reason is Reason.ETAG_MISMATCH
    await operator.DeleteTeam(pb.DeleteTeamRequest(team_name="vision", etag=cleared.etag))
    gone = await refused(operator.GetTeam(pb.GetTeamRequest(team_name="vision")))
    assert gone.reason is Reason.TEAM_NOT_FOUND


async def test_quotas_are_the_operators_the_rest_is_the_admins(channel: grpc.aio.Channel) -> None:
    await make_team(channel, "vision", resource_quota=QUOTA)
    admin = teams_by(channel, member("vision"))
    whole = await admin.GetTeam(pb.GetTeamRequest(team_name="vision"))
    whole.description, whole.require_signature = "sees", True
    changed = await admin.UpdateTeam(pb.UpdateTeamRequest(team=whole))
    assert (changed.description, changed.require_signature) == ("sees", True)
    for field in ("resource_quota", "rate_limit"):
        wider = team_pb2.Team(name="vision")
        wider.resource_quota.models, wider.rate_limit.requests_per_sec = 1000, 5
        denied = await refused(admin.UpdateTeam(pb.UpdateTeamRequest(team=wider, update_mask=FieldMask(paths=[field]))))
        assert (denied.reason, denied.metadata["fields"]) == (Reason.PERMISSION_DENIED, field)
    for caller in (member("vision", "deployer"), member("vision", scopes=frozenset({"predict"}))):
        change = pb.UpdateTeamRequest(team=team_pb2.Team(name="vision", description="mine"))
        assert (await refused(teams_by(channel, caller).UpdateTeam(change))).reason is Reason.PERMISSION_DENIED
    assert (await refused(admin.CreateTeam(pb.CreateTeamRequest(team=team_pb2.Team(name="mine"))))).reason is (
        Reason.PERMISSION_DENIED
    )


async def test_another_teams_name_answers_as_one_that_is_not_there(channel: grpc.aio.Channel) -> None:
    await make_team(channel, "vision")
    await make_team(channel, "fraud")
    caller = teams_by(channel, member("vision"))
    calls: Mapping[str, Callable[[str], Message]] = {
        "GetTeam": lambda team: pb.GetTeamRequest(team_name=team),
        "ListMembers": lambda team: pb.ListMembersRequest(team_name=team),
        "SetMember": lambda team: pb.SetMemberRequest(team_name=team, user="eve", role="admin"),
        "DeleteMember": lambda team: pb.DeleteMemberRequest(team_name=team, user="eve"),
        "ListApiKeys": lambda team: pb.ListApiKeysRequest(team_name=team),
        "GetApiKey": lambda team: pb.GetApiKeyRequest(team_name=team, key_id="k"),
        "RevokeApiKey": lambda team: pb.RevokeApiKeyRequest(team_name=team, key_id="k"),
        "CreateApiKey": lambda team: pb.CreateApiKeyRequest(team_name=team, name="a", role="viewer"),
        "UpdateTeam": lambda team: pb.UpdateTeamRequest(team=team_pb2.Team(name=team, description="mine")),
    }
    for name, call in calls.items():
        errors = [await refused(getattr(caller, name)(call(team))) for team in ("fraud", "nosuch")]
        shown = {(one.reason, one.message.replace("fraud", "nosuch")) for one in errors}
        assert shown == {(Reason.TEAM_NOT_FOUND, errors[1].message)}, name
        assert {key: value.replace("fraud", "nosuch") for key, value in errors[0].metadata.items()} == errors[
            1
        ].metadata
    assert [team.name for team in (await caller.ListTeams(pb.ListTeamsRequest())).teams] == ["vision"]


async def test_members_get_tokens_of_their_teams(channel: grpc.aio.Channel) -> None:
    await make_team(channel, "vision")
    await make_team(channel, "fraud")
    admin = teams_by(channel, member("vision"))
    set_ann = pb.SetMemberRequest(team_name="vision", user="ann@example.com", role="deployer")
    assert (await admin.SetMember(set_ann)).role == "deployer"
    await admin.SetMember(pb.SetMemberRequest(team_name="vision", user="bob", role="viewer"))
    first = await admin.ListMembers(pb.ListMembersRequest(team_name="vision", page_size=1))
    assert [one.user for one in first.members] == ["ann@example.com"]
    second = await admin.ListMembers(
        pb.ListMembersRequest(team_name="vision", page_size=1, page_token=first.next_page_token)
    )
    assert ([one.user for one in second.members], second.next_page_token) == (["bob"], "")
    ann = teams_by(channel, stranger("ann@example.com"))
    assert (await ann.GetCaller(pb.GetCallerRequest())).user == "ann@example.com"
    assert [team.name for team in (await ann.ListTeams(pb.ListTeamsRequest())).teams] == ["vision"]
    token = await ann.ExchangeToken(pb.ExchangeTokenRequest(team_name="vision", scopes=["predict"]))
    key = token.api_key
    assert (key.team, key.role, list(key.scopes)) == ("vision", "deployer", ["predict"])
    assert key.expires_at.seconds - key.created_at.seconds in (3599, 3600)
    errors = [await refused(ann.ExchangeToken(pb.ExchangeTokenRequest(team_name=team))) for team in ("fraud", "nosuch")]
    assert [one.reason for one in errors] == [Reason.TEAM_NOT_FOUND] * 2
    assert errors[0].message.replace("fraud", "nosuch") == errors[1].message
    # A token does not get tokens, and whoever is nobody gets none.
    for caller in (Identity(user="ann@example.com", team="vision", role="deployer", key_id=key.key_id), stranger()):
        call = teams_by(channel, caller).ExchangeToken(pb.ExchangeTokenRequest(team_name="vision"))
        assert (await refused(call)).reason is Reason.UNAUTHENTICATED
    await admin.SetMember(pb.SetMemberRequest(team_name="vision", user="ann@example.com", role="viewer"))
    shown = await admin.GetApiKey(pb.GetApiKeyRequest(team_name="vision", key_id=key.key_id))
    assert shown.HasField("revoked_at")
    await admin.DeleteMember(pb.DeleteMemberRequest(team_name="vision", user="bob"))
    gone = await refused(admin.DeleteMember(pb.DeleteMemberRequest(team_name="vision", user="bob")))
    assert gone.reason is Reason.MEMBER_NOT_FOUND


async def test_no_key_makes_a_greater_one(channel: grpc.aio.Channel) -> None:
    await make_team(channel, "vision")
    await models_by(channel, member("vision", "deployer")).CreateModel(digits())
    narrow = member("vision", scopes=frozenset({"admin", "predict"}))
    limited = member("vision", models=frozenset({"digits"}))
    for caller, request, fields in (
        (narrow, pb.CreateApiKeyRequest(team_name="vision", name="a", role="viewer"), "scopes"),
        (narrow, pb.CreateApiKeyRequest(team_name="vision", name="a", role="viewer", scopes=["batch"]), "scopes"),
    ):
        denied = await refused(teams_by(channel, caller).CreateApiKey(request))
        assert (denied.reason, denied.metadata["fields"]) == (Reason.PERMISSION_DENIED, fields)
    whole = pb.CreateApiKeyRequest(team_name="vision", name="a", role="viewer")
    assert (await refused(teams_by(channel, limited).CreateApiKey(whole))).reason is Reason.PERMISSION_DENIED
    operators = pb.CreateApiKeyRequest(team_name="vision", name="a", role="platform-admin")
    assert (await refused(teams_by(channel, OPERATOR).CreateApiKey(operators))).reason is Reason.INVALID_FIELD
    kept = pb.CreateApiKeyRequest(team_name="vision", name="a", role="viewer", scopes=["predict"])
    assert (await teams_by(channel, narrow).CreateApiKey(kept)).api_key.scopes == ["predict"]


@pytest.mark.parametrize(
    ("team", "fields"),
    [
        (team_pb2.Team(name="No"), ["team.name"]),
        (team_pb2.Team(name="a_b"), ["team.namespace"]),
        (team_pb2.Team(name="a", resource_quota=team_pb2.ResourceQuota(cpu="4 cores")), ["team.resource_quota.cpu"]),
        (team_pb2.Team(name="a", rate_limit=team_pb2.RateLimit(burst=-1)), ["team.rate_limit.burst"]),
        (
            team_pb2.Team(name="a", trusted_signers=[""], description="x" * 5000),
            ["team.description", "team.trusted_signers[0]"],
        ),
    ],
)
async def test_what_no_team_can_be(channel: grpc.aio.Channel, team: team_pb2.Team, fields: list[str]) -> None:
    error = await refused(teams_by(channel, OPERATOR).CreateTeam(pb.CreateTeamRequest(team=team)))
    assert error.reason is Reason.INVALID_FIELD
    assert sorted(one.field for one in error.violations) == fields


async def test_keys_that_were_used_say_so(channel: grpc.aio.Channel) -> None:
    await make_team(channel, "vision")
    admin, inside = teams_by(channel, member("vision")), teams_by(channel, INSIDE)
    made = await admin.CreateApiKey(pb.CreateApiKeyRequest(team_name="vision", name="a", role="viewer"))
    key_id = made.api_key.key_id
    report = pb.ReportKeyUseRequest(uses=[pb.KeyUse(key_id=key_id), pb.KeyUse(key_id="nobody")])
    for use in report.uses:
        use.used_at.FromSeconds(made.api_key.created_at.seconds)
    await inside.ReportKeyUse(report)
    used = (await admin.GetApiKey(pb.GetApiKeyRequest(team_name="vision", key_id=key_id))).last_used_at.seconds
    assert used % 60 == 0
    assert 0 <= made.api_key.created_at.seconds - used < 60
    # Neither back nor into the future.
    report.uses[0].used_at.FromSeconds(used - 3600)
    await inside.ReportKeyUse(report)
    report.uses[0].used_at.FromSeconds(used + 86_400)
    await inside.ReportKeyUse(report)
    again = await admin.GetApiKey(pb.GetApiKeyRequest(team_name="vision", key_id=key_id))
    assert 0 <= again.last_used_at.seconds - used <= 120


async def test_services_get_tokens_to_act_by(channel: grpc.aio.Channel) -> None:
    await make_team(channel, "vision")
    request = pb.CreateServiceTokenRequest(
        purpose="batch job 1", team="vision", user="ann", role="viewer", scopes=["predict"], models=["digits"]
    )
    made = await teams_by(channel, INSIDE).CreateServiceToken(request)
    assert made.token.count(".") == 2
    assert made.HasField("expires_at")
    denied = await refused(teams_by(channel, OPERATOR).CreateServiceToken(request))
    assert denied.reason is Reason.PERMISSION_DENIED
    request.role = "admin"
    assert (await refused(teams_by(channel, INSIDE).CreateServiceToken(request))).reason is Reason.INVALID_FIELD
