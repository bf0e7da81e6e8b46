"""The table of rules against the contracts: total, and right about the fields that it names."""

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from services.common.access.policy import RULES, rule_of
from services.common.access.roles import ROLE_SCOPES, Role, Scope
from services.common.access.rule import Access
from services.common.grpc.identity import ANONYMOUS
from tests.support.contracts import every_method

METHODS = every_method()


def _field(message: Descriptor, path: str) -> FieldDescriptor:
    *parents, last = path.split(".")
    for name in parents:
        inner = message.fields_by_name[name].message_type
        assert inner is not None
        message = inner
    return message.fields_by_name[last]


def test_every_method_of_every_contract_has_a_rule_and_no_other_has() -> None:
    assert len(METHODS) > 140
    assert set(RULES) == set(METHODS)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_rule_names_fields_that_there_are_and_that_are_text(method: str) -> None:
    rule = rule_of(method)
    for path in filter(None, (rule.model, rule.team)):
        field = _field(METHODS[method].input_type, path)
        assert field.type == FieldDescriptor.TYPE_STRING
        assert not field.is_repeated


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_request_that_names_a_model_or_a_team_is_held_to_it(method: str) -> None:
    """A field `model_name` that a rule overlooks would be a way around it."""
    rule, fields = rule_of(method), METHODS[method].input_type.fields_by_name
    if rule.internal_only or rule.role is Role.PLATFORM_ADMIN:
        return
    if "model_name" in fields:
        assert rule.model == "model_name"
    if "team_name" in fields and not method.endswith("/ExchangeToken"):
        assert rule.team == "team_name"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_whoever_may_by_role_may_by_scope(method: str) -> None:
    rule = rule_of(method)
    assert not rule.scopes or rule.scopes & ROLE_SCOPES[rule.role]
    assert bool(rule.scopes) == (rule.role >= Role.VIEWER and not rule.internal_only)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_changes_take_more_than_a_viewer_and_reads_of_a_model_no_more(method: str) -> None:
    rule = rule_of(method)
    if rule.writes:
        assert rule.role >= Role.DEPLOYER
        assert not rule.scopes & {Scope.MODELS_READ, Scope.PREDICT}


def test_what_needs_no_credential_is_named_here() -> None:
    assert {method for method, rule in RULES.items() if rule.role is Role.ANONYMOUS} == {
        "/infermesh.registry.v1.TeamService/GetKeySet",
        "/infermesh.router.v1.RouterService/GetApiDescription",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
    }


def test_what_a_user_without_a_team_may_is_named_here() -> None:
    assert {method.rpartition("/")[2] for method, rule in RULES.items() if rule.role is Role.USER} == {
        "GetCaller",
        "ListTeams",
        "ExchangeToken",
    }


def test_what_has_no_route_is_between_services_unless_it_is_a_protocol_of_its_own() -> None:
    unrouted = {
        method
        for method, descriptor in METHODS.items()
        if not descriptor.GetOptions().HasExtension(annotations_pb2.http)
        and not method.startswith(("/inference.", "/infermesh.prediction."))
    }
    assert {method for method, rule in RULES.items() if rule.internal_only} == unrouted


def test_a_method_that_nobody_decided_about_is_closed() -> None:
    assert rule_of("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources").internal_only


def test_no_role_is_called_as_callers_without_one_are() -> None:
    assert Role.ANONYMOUS.word == ANONYMOUS
    assert {access for access in Access if access not in {Access.READ, Access.CALL}} == {Access.WRITE, Access.CREATE}
