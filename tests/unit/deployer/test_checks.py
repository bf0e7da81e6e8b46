"""What a wish may say, and how a wrong one is answered."""

from dataclasses import replace

import pytest

from services.common.errors import MeshError, Reason
from services.deployer.domain.checks import check_new, check_split
from services.deployer.domain.deployment import Autoscaling, Batching, NewDeployment, Resources, ServingOptions, Wish
from services.deployer.domain.external import ExternalBackend

SPEC_EXAMPLE = NewDeployment(
    model_name="recommendation_model",
    version="v1.0.0",
    deployment_name="prod-us-west",
    wish=Wish(
        resources=Resources(replicas=3, cpu="4", memory="16Gi"),
        autoscaling=Autoscaling(True, 2, 10, target_cpu_percent=70, target_latency_ms=100),
        batching=Batching(True, 32, 50),
    ),
    traffic_split={"v1.0.0": 100},
)


def refused(new: NewDeployment) -> MeshError:
    with pytest.raises(MeshError) as caught:
        check_new(new, local_replicas_max=16)
    return caught.value


def test_the_contracts_own_example_is_taken() -> None:
    check_new(SPEC_EXAMPLE, local_replicas_max=16)


def test_everything_wrong_is_named_at_once() -> None:
    wish = Wish(
        resources=Resources(cpu="much", replicas=2000),
        batching=Batching(max_batch_size=0, batch_timeout_ms=float("nan")),
        autoscaling=Autoscaling(min_replicas=11),
        serving=ServingOptions(precision="fp8"),
    )
    error = refused(replace(SPEC_EXAMPLE, deployment_name="No", environment="home", wish=wish))
    assert error.reason is Reason.INVALID_FIELD
    assert {violation.field for violation in error.violations} == {
        "deployment_name",
        "environment",
        "resources.cpu",
        "resources.replicas",
        "batching.max_batch_size",
        "batching.batch_timeout_ms",
        "autoscaling.min_replicas",
        "serving.precision",
    }
    assert all("allowed:" in violation.description for violation in error.violations)


@pytest.mark.parametrize("quantity", ["", "4", "0.5", "500m", "16Gi", "2G", "100k", "2e3", "1E"])
def test_quantities_are_those_of_kubernetes(quantity: str) -> None:
    wish = Wish(resources=Resources(cpu=quantity, memory=quantity))
    check_new(replace(SPEC_EXAMPLE, wish=wish), local_replicas_max=16)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"wish": Wish(serving=ServingOptions(precision="fp16"))}, Reason.NOT_IMPLEMENTED),
        ({"wish": Wish(resources=Resources(gpu=1))}, Reason.INVALID_FIELD),
        ({"wish": Wish(resources=Resources(replicas=17))}, Reason.INVALID_FIELD),
        ({"traffic_split": {"v1.0.0": 90}}, Reason.WEIGHTS_INVALID),
    ],
)
def test_what_cannot_be_done_here_is_refused_instead_of_ignored(change: dict[str, object], reason: Reason) -> None:
    assert refused(replace(SPEC_EXAMPLE, **change)).reason is reason  # type: ignore[arg-type]


def test_what_a_cluster_can_run_is_for_its_api_server_to_say() -> None:
    wish = Wish(resources=Resources(replicas=40, gpu=2), serving=ServingOptions(precision="fp16"))
    check_new(replace(SPEC_EXAMPLE, cluster="eks-1", wish=wish), local_replicas_max=16)
    external = Wish(external=ExternalBackend("oip-rest", ("a:1",)))
    assert refused(replace(SPEC_EXAMPLE, cluster="eks-1", wish=external)).reason is Reason.INVALID_FIELD


def test_a_split_is_empty_or_whole() -> None:
    check_split({})
    check_split({"v1.0.0": 99, "v2.0.0": 1})
    with pytest.raises(MeshError, match="adds up to 101"):
        check_split({"v1.0.0": 100, "v2.0.0": 1})
    with pytest.raises(MeshError, match="traffic_split"):
        check_split({"latest": 100})


def test_a_latency_target_of_the_autoscaling_is_that_of_the_batching_unless_it_has_one() -> None:
    assert SPEC_EXAMPLE.wish.target_latency_ms == 100
    assert replace(SPEC_EXAMPLE.wish, batching=Batching(target_latency_ms=0)).target_latency_ms == 0
    assert Wish().target_latency_ms == 0
