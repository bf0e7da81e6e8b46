"""What is made for each kind of wish, against files that were read and found right."""

from dataclasses import replace

import pytest
import yaml

from services.common.body import at, text
from services.common.errors import MeshError, Reason
from services.operator.domain.applying import key_of
from services.operator.domain.manifests.desired import desired
from services.operator.domain.spec import read_spec
from tests.support.operator_cases import FACTS, FOLDER, OPTIONS, SPECS, TEAMS, body, manifests, plain, text_of


@pytest.mark.parametrize("case", [*SPECS, *TEAMS])
def test_what_is_made_is_what_the_file_says(case: str) -> None:
    found = list(yaml.safe_load_all((FOLDER / f"{case}.yaml").read_text()))
    assert [plain(one) for one in manifests(case)] == found
    assert text_of(case) == (FOLDER / f"{case}.yaml").read_text(), "python -m tests.support.operator_cases"


def test_there_is_a_file_for_each_case_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*SPECS, *TEAMS}


def test_nothing_sleeps_where_nobody_can_tell_idleness() -> None:
    wish = read_spec(body({"autoscaling": {"minReplicas": 0}}))
    with pytest.raises(MeshError, match="INFERMESH_OPERATOR_PROMETHEUS_URL and install KEDA") as refused:
        desired(wish, FACTS, replace(OPTIONS, prometheus_url=""), replicas=1)
    assert refused.value.reason is Reason.NOT_IMPLEMENTED


def test_a_change_of_version_is_another_workload_and_of_resources_the_same() -> None:
    def workload(**spec: object) -> object:
        found = desired(read_spec(body(spec)), FACTS, OPTIONS, replicas=1)
        [one] = [one for one in found if one["kind"] == "Deployment"]
        return one

    first, larger, other = workload(), workload(resources={"cpu": 2}), workload(version="v1.0.1")
    assert text(first, "metadata", "name") == text(larger, "metadata", "name")
    assert at(first, "spec", "selector") == at(larger, "spec", "selector")
    assert text(first, "metadata", "name") != text(other, "metadata", "name")
    assert at(first, "spec", "selector") != at(other, "spec", "selector")


def test_what_replicas_need_comes_before_them() -> None:
    kinds = [key_of(one)[0] for one in manifests("autoscaled")]
    assert kinds.index("ServiceAccount") < kinds.index("Deployment")
    assert kinds.index("NetworkPolicy") < kinds.index("Deployment")
    assert kinds.index("Deployment") < kinds.index("HorizontalPodAutoscaler")
