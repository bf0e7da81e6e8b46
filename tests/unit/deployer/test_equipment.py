"""What deployments may ask of GPUs, and which copies run on which."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from services.common.errors import MeshError, Reason
from services.deployer.domain.deployment import Autoscaling, Resources, ServingOptions, Wish
from services.deployer.domain.equipment import CPUS_ALONE, Equipment, Group, check_devices, place_copies
from services.deployer.domain.package import check_gpu, check_precision
from services.deployer.settings import DeployerSettings
from tests.support.deployer_fakes import recipe

TWO = Equipment(gpus=(0, 3))


def wish(gpu: int = 0, precision: str = "", *, replicas: int = 1, instances: int = 1, sharing: str = "") -> Wish:
    resources = Resources(replicas, gpu=gpu, gpu_sharing=sharing)
    return Wish(resources, serving=ServingOptions(precision, instances=instances))


def scaled(sharing: str = "") -> Wish:
    return replace(
        wish(1, sharing=sharing), autoscaling=Autoscaling(enabled=True, max_replicas=8, target_concurrency=4)
    )


@given(
    name=st.text(max_size=20),
    copies=st.integers(1, 64),
    gpus=st.integers(1, 16),
    there=st.lists(st.integers(0, 31), min_size=1, max_size=8, unique=True),
)
def test_copies_are_spread_evenly_over_as_many_gpus_as_asked(
    name: str, copies: int, gpus: int, there: list[int]
) -> None:
    groups = place_copies(name, copies, gpus=gpus, there=there)
    counts = [group.count for group in groups]
    assert sum(counts) == copies
    assert len({group.gpu for group in groups}) == len(groups) == min(copies, gpus, len(there))
    assert {group.gpu for group in groups} <= set(there)
    assert max(counts) - min(counts) <= 1
    assert groups == place_copies(name, copies, gpus=gpus, there=there)


def test_models_are_spread_over_the_gpus_and_copies_without_one_are_on_the_cpu() -> None:
    used = {place_copies(f"model-{number}", 1, gpus=1, there=(0, 1, 2, 3))[0].gpu for number in range(64)}
    assert used == {0, 1, 2, 3}
    assert place_copies("model", 3, gpus=0, there=(0,)) == (Group(3),)
    assert place_copies("model", 3, gpus=1, there=()) == (Group(3),)


@pytest.mark.parametrize(
    ("wished", "equipment", "problem"),
    [
        (wish(gpu=1), CPUS_ALONE, "have no GPU to give"),
        (wish(gpu=3, instances=4), TWO, "at most 2, the GPUs"),
        (wish(gpu=2, replicas=2), TWO, "at most 1, the copies of a replica"),
        (wish(gpu=1, replicas=3), TWO, "resources.replicas is 3; allowed: at most 2 with resources.gpu 1"),
        (wish(gpu=2, replicas=2, instances=2), TWO, "at most 1 with resources.gpu 2"),
        (scaled(), TWO, "autoscaling.max_replicas is 8; allowed: at most 2"),
        (wish(precision="fp16"), TWO, "unless resources.gpu asks for a GPU"),
        (wish(gpu=1, precision="int8"), TWO, "computed by the CPU"),
    ],
)
def test_what_the_servers_cannot_give_is_refused_with_what_they_can(
    wished: Wish, equipment: Equipment, problem: str
) -> None:
    with pytest.raises(MeshError, match=problem) as refused:
        check_devices(wished, equipment)
    assert refused.value.reason is Reason.INVALID_FIELD


def test_half_precision_without_any_gpu_is_not_to_be_had() -> None:
    with pytest.raises(MeshError, match="half precision needs a GPU") as refused:
        check_devices(wish(gpu=1, precision="fp16"), CPUS_ALONE)
    assert refused.value.reason is Reason.NOT_IMPLEMENTED


@pytest.mark.parametrize(
    "wished",
    [
        wish(),
        wish(precision="int8"),
        wish(gpu=1, precision="fp16"),
        wish(gpu=1, replicas=0),
        wish(gpu=1, replicas=2),
        wish(gpu=2, instances=2),
        wish(gpu=1, replicas=9, sharing="time-slicing"),
        scaled("mps"),
    ],
)
def test_what_they_can_give_is_taken(wished: Wish) -> None:
    check_devices(wished, TWO)


@pytest.mark.parametrize("framework", ["sklearn", "xgboost", "lightgbm", "python"])
def test_half_precision_is_refused_where_it_means_nothing(framework: str) -> None:
    with pytest.raises(MeshError, match=f"for onnx, pytorch, tensorflow, and this version is of {framework}"):
        check_precision(wish(gpu=1, precision="fp16"), recipe(framework=framework))


@pytest.mark.parametrize("framework", ["sklearn", "xgboost", "lightgbm", "tensorflow"])
def test_a_gpu_is_refused_where_only_the_runner_could_run_the_version(framework: str) -> None:
    with pytest.raises(MeshError, match=r"resources.gpu is 1; allowed: 0, because .*, and "):
        check_gpu(wish(gpu=1), recipe(framework=framework), TWO)
    check_gpu(wish(), recipe(framework=framework), TWO)


@pytest.mark.parametrize("framework", ["onnx", "pytorch", "python"])
def test_a_gpu_is_the_runners_for_what_its_environments_can_compute_there(framework: str) -> None:
    check_gpu(wish(gpu=1), recipe(framework=framework), TWO)


def test_a_gpu_is_a_native_backends_where_the_servers_have_it() -> None:
    check_gpu(wish(gpu=1), recipe(framework="tensorflow"), Equipment(frozenset({"tensorflow"}), (0,)))


def settings(**values: str) -> DeployerSettings:
    return DeployerSettings(database_url=SecretStr("postgresql+psycopg://none"), **values)  # type: ignore[arg-type]


def test_settings_say_what_the_servers_have() -> None:
    assert settings().equipment == CPUS_ALONE
    said = settings(native_backends="onnxruntime, fil", gpus="0, 3").equipment
    assert said == Equipment(frozenset({"onnxruntime", "fil"}), (0, 3))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"native_backends": "onnxruntime,onnx"}, "'onnx' is no backend that is known; allowed: onnxruntime, pytorch"),
        ({"gpus": "0,one"}, "numbers of GPUs"),
        ({"gpus": "0,00"}, "different numbers"),
    ],
)
def test_settings_that_name_what_there_is_not_are_refused(values: dict[str, str], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings(**values)
