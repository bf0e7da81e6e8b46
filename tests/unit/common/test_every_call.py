"""The samples that walks are made of name what they are asked to name, over every route."""

import pytest

from services.common.access.guard import text_at
from services.common.access.policy import RULES, rule_of
from tests.support.every_call import Call, Names, every_call

NAMES = Names(model="iris", team="red", job_id="batch_job_7", key_id="k7")


def test_every_method_has_a_sample() -> None:
    assert {call.method for call in every_call()} == set(RULES)
    assert {call.service for call in every_call("infermesh.batch.v1.BatchService")} == {
        "infermesh.batch.v1.BatchService"
    }


@pytest.mark.parametrize("call", every_call(), ids=lambda call: call.method)
def test_a_sample_names_the_model_and_the_team(call: Call) -> None:
    rule, request = rule_of(call.method), call.request(NAMES)
    assert not rule.model or text_at(request, rule.model) == "iris"
    assert not rule.team or text_at(request, rule.team) == "red"


@pytest.mark.parametrize("call", every_call(), ids=lambda call: call.method)
def test_routes_are_filled_in_whole(call: Call) -> None:
    for rest in call.rest(NAMES):
        assert rest.verb in {"GET", "POST", "PUT", "PATCH", "DELETE"}
        assert rest.path.startswith("/v1/")
        assert "{" not in rest.path
        assert "//" not in rest.path
        assert (rest.body is None) == (rest.verb in {"GET", "DELETE"})


def test_what_is_in_the_path_is_not_in_the_body_or_the_query_again() -> None:
    calls = {call.descriptor.name: call for call in every_call()}
    (got,) = calls["GetModel"].rest(NAMES)
    assert (got.verb, got.path, got.body) == ("GET", "/v1/models/iris", None)
    both = calls["ListDeployments"].rest(NAMES)
    assert [one.path for one in both] == ["/v1/models/iris/deployments", "/v1/deployments?model_name=iris"]
    (update,) = calls["UpdateModel"].rest(NAMES)
    assert update.path == "/v1/models/iris"
    assert b"iris" not in (update.body or b"")
    (revoke,) = calls["RevokeApiKey"].rest(NAMES)
    assert (revoke.verb, revoke.path) == ("POST", "/v1/teams/red/api-keys/k7:revoke")
    (job,) = calls["GetBatchJob"].rest(NAMES)
    assert job.path == "/v1/batch/jobs/batch_job_7"
