"""The guard before a servicer: what it asks whom, and that hidden and absent names answer alike."""

from collections.abc import AsyncIterator

import pytest
from infermesh.deployer.v1 import deployer_service_pb2
from infermesh.prediction.v1 import prediction_pb2
from infermesh.registry.v1 import registry_service_pb2, team_service_pb2

from services.common.access.book import AccessBook, AccessUpdate
from services.common.access.decide import Standing
from services.common.access.guard import Guard
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity

GET = "/infermesh.deployer.v1.DeployerService/GetDeployment"
UPDATE = "/infermesh.deployer.v1.DeployerService/UpdateDeployment"
LIST = "/infermesh.deployer.v1.DeployerService/ListDeployments"
STREAM = "/infermesh.prediction.v1.PredictionService/StreamPredict"
CREATE = "/infermesh.registry.v1.RegistryService/CreateModel"
SET_MEMBER = "/infermesh.registry.v1.TeamService/SetMember"
RED = Identity(user="ada", team="red", role="deployer", key_id="k1")


class Owners:
    """A registry that knows some models, or is away."""

    def __init__(self, **models: Standing) -> None:
        self.models = models
        self.asked: list[str] = []
        self.away = False

    async def standing(self, model_name: str, identity: Identity) -> Standing | None:
        self.asked.append(model_name)
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the registry is away")
        found = self.models.get(model_name)
        shown = found is not None and identity.sees(model_name, found.team, found.shared_with)
        return found if shown else None


def _book(revoked: frozenset[str] = frozenset(), **models: Standing) -> AccessBook:
    book = AccessBook()
    book.apply(AccessUpdate("1", revoked, {}, models, models_reset=True))
    return book


async def _ask(guard: Guard, method: str, identity: Identity, request: object) -> MeshError | None:
    try:
        await guard.check(guard.admit(method, identity), identity, request)  # type: ignore[arg-type]
    except MeshError as error:
        return error
    return None


def _get(model: str) -> deployer_service_pb2.GetDeploymentRequest:
    return deployer_service_pb2.GetDeploymentRequest(model_name=model, deployment_name="prod")


async def test_own_and_shared_models_pass_without_a_question_to_the_registry() -> None:
    owners = Owners()
    guard = Guard(_book(mine=Standing("red"), lent=Standing("blue", frozenset({"red"}))), owners=owners)
    assert await _ask(guard, GET, RED, _get("mine")) is None
    assert await _ask(guard, GET, RED, _get("lent")) is None
    assert owners.asked == []


async def test_hidden_and_absent_names_get_one_answer_by_one_way() -> None:
    owners = Owners(theirs=Standing("blue"))
    guard = Guard(_book(theirs=Standing("blue")), owners=owners)
    hidden, absent = await _ask(guard, GET, RED, _get("theirs")), await _ask(guard, GET, RED, _get("absent"))
    assert hidden is not None
    assert absent is not None
    assert hidden.reason is absent.reason is Reason.MODEL_NOT_FOUND
    assert hidden.message.replace("theirs", "absent") == absent.message
    assert owners.asked == ["theirs", "absent"]


async def test_hidden_and_absent_names_get_one_answer_while_the_registry_is_away() -> None:
    owners = Owners()
    owners.away = True
    guard = Guard(_book(theirs=Standing("blue"), mine=Standing("red")), owners=owners)
    for name in ("theirs", "absent"):
        error = await _ask(guard, GET, RED, _get(name))
        assert error is not None
        assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert await _ask(guard, GET, RED, _get("mine")) is None


async def test_a_model_that_was_registered_a_moment_ago_is_asked_about_once() -> None:
    owners = Owners(fresh=Standing("red"))
    guard = Guard(_book(), owners=owners)
    assert await _ask(guard, GET, RED, _get("fresh")) is None
    assert await _ask(guard, GET, RED, _get("fresh")) is None
    assert owners.asked == ["fresh"]


async def test_what_is_shared_is_read_and_not_changed() -> None:
    guard = Guard(_book(lent=Standing("blue", frozenset({"red"})), nobodys=Standing()))
    for name in ("lent", "nobodys"):
        request = deployer_service_pb2.UpdateDeploymentRequest()
        request.deployment.model_name = name
        error = await _ask(guard, UPDATE, RED, request)
        assert error is not None
        assert error.reason is Reason.PERMISSION_DENIED


async def test_lists_of_all_models_are_left_to_the_service() -> None:
    guard = Guard(_book(), owners=Owners())
    assert await _ask(guard, LIST, RED, deployer_service_pb2.ListDeploymentsRequest()) is None
    named = await _ask(guard, LIST, RED, deployer_service_pb2.ListDeploymentsRequest(model_name="theirs"))
    assert named is not None
    assert named.reason is Reason.MODEL_NOT_FOUND


async def test_what_cannot_be_a_name_is_said_to_be_none() -> None:
    error = await _ask(Guard(_book(), owners=Owners()), GET, RED, _get("../etc"))
    assert error is not None
    assert error.reason is Reason.INVALID_FIELD
    assert error.violations[0].field == "model_name"


async def test_a_guard_without_a_book_leaves_models_and_holds_roles_and_teams() -> None:
    guard = Guard()
    assert await _ask(guard, GET, RED, _get("theirs")) is None
    viewer = Identity(team="red", role="viewer")
    refused = await _ask(guard, CREATE, viewer, registry_service_pb2.CreateModelRequest(name="new"))
    assert refused is not None
    assert refused.reason is Reason.PERMISSION_DENIED
    admin = Identity(team="red", role="admin")
    ours = team_service_pb2.SetMemberRequest(team_name="red", user="eve", role="viewer")
    theirs = team_service_pb2.SetMemberRequest(team_name="blue", user="eve", role="viewer")
    assert await _ask(guard, SET_MEMBER, admin, ours) is None
    error = await _ask(guard, SET_MEMBER, admin, theirs)
    assert error is not None
    assert error.reason is Reason.TEAM_NOT_FOUND


async def test_a_key_for_some_models_registers_no_other_and_manages_no_members() -> None:
    guard = Guard()
    key = Identity(team="red", role="admin", models=frozenset({"mine"}))
    assert await _ask(guard, CREATE, key, registry_service_pb2.CreateModelRequest(name="mine")) is None
    for method, request in (
        (CREATE, registry_service_pb2.CreateModelRequest(name="other")),
        (SET_MEMBER, team_service_pb2.SetMemberRequest(team_name="red", user="eve", role="admin")),
    ):
        error = await _ask(guard, method, key, request)
        assert error is not None
        assert error.reason is Reason.PERMISSION_DENIED


async def test_a_revoked_key_is_as_none() -> None:
    guard = Guard(_book(revoked=frozenset({"k1"}), mine=Standing("red")))
    error = await _ask(guard, GET, RED, _get("mine"))
    assert error is not None
    assert error.reason is Reason.UNAUTHENTICATED


async def test_each_message_of_a_stream_is_held_to_the_models_that_the_caller_sees() -> None:
    guard = Guard(_book(mine=Standing("red")), owners=Owners())

    async def sent() -> AsyncIterator[prediction_pb2.PredictRequest]:
        for name in ("mine", "theirs", "mine"):
            yield prediction_pb2.PredictRequest(model_name=name)

    checked = guard.checked(guard.admit(STREAM, RED), RED, sent())
    assert (await anext(checked)).model_name == "mine"
    with pytest.raises(MeshError, match="theirs"):
        await anext(checked)


async def test_a_stream_ends_when_the_model_is_taken_away_or_the_key_is_revoked() -> None:
    book = _book(lent=Standing("blue", frozenset({"red"})))
    guard, request = Guard(book), _get("lent")
    rule = guard.admit(GET, RED)
    guard.still(rule, RED, request)
    book.apply(AccessUpdate("2", frozenset(), {}, {"lent": Standing("blue")}))
    with pytest.raises(MeshError, match="no model 'lent'"):
        guard.still(rule, RED, request)
    book.apply(AccessUpdate("3", frozenset({"k1"}), {}, {}))
    with pytest.raises(MeshError, match="no valid API key"):
        guard.still(rule, RED, request)


async def test_the_keys_that_were_seen_are_told() -> None:
    seen: list[str] = []
    guard = Guard(on_key=seen.append)
    guard.admit(GET, RED)
    guard.admit(GET, Identity())
    assert seen == ["k1"]


async def test_a_book_that_has_heard_nothing_shows_nothing_rather_than_no_models() -> None:
    book = AccessBook()
    with pytest.raises(MeshError) as caught:
        book.sight(RED)
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert book.sight(Identity()).everything


async def test_what_was_learned_holds_until_the_registry_tells_everybody_something() -> None:
    book = _book(lent=Standing("blue", frozenset({"green"})))
    owners = Owners(lent=Standing("blue", frozenset({"red"})))
    guard = Guard(book, owners=owners)
    assert await _ask(guard, GET, RED, _get("lent")) is None
    # Shared and taken back at once: to the registry's followers nothing changed.
    owners.models["lent"] = Standing("blue", frozenset({"green"}))
    book.apply(AccessUpdate("3", frozenset(), {}, {}))
    refused = await _ask(guard, GET, RED, _get("lent"))
    assert refused is not None
    assert refused.reason is Reason.MODEL_NOT_FOUND
    assert book.standing("lent") == Standing("blue", frozenset({"green"}))
    assert "lent" not in book.sight(RED).names


async def test_an_answer_that_is_older_than_what_everybody_was_told_is_not_learned() -> None:
    book = _book()

    class Overtaken(Owners):
        async def standing(self, model_name: str, identity: Identity) -> Standing | None:
            found = await super().standing(model_name, identity)
            book.apply(AccessUpdate("2", frozenset(), {}, {"lent": Standing("blue")}))
            return found

    owners = Overtaken(lent=Standing("blue", frozenset({"red"})))
    await _ask(Guard(book, owners=owners), GET, RED, _get("lent"))
    assert book.standing("lent") == Standing("blue")


async def test_a_guard_without_a_book_ends_streams_of_keys_that_it_hears_were_revoked() -> None:
    revoked: set[str] = set()
    guard = Guard(revoked=revoked.__contains__)
    watch = registry_service_pb2.WatchChangesRequest()
    rule = guard.admit("/infermesh.registry.v1.RegistryService/WatchChanges", RED)
    guard.still(rule, RED, watch)
    revoked.add("k1")
    with pytest.raises(MeshError) as caught:
        guard.still(rule, RED, watch)
    assert caught.value.reason is Reason.UNAUTHENTICATED
