"""Quantising real models by the script that the deployer runs, and what becomes of their packages."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.deployer.adapters.quantizer import OnnxQuantizer
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, ServingOptions, Wish
from services.deployer.domain.native import QUANTISED
from services.deployer.domain.package import Package, package_of
from services.supervisor.settings import ROOT
from tests.support.clock import NOON
from tests.support.dense_models import sample, save_dense
from tests.support.deployer_fakes import recipe

RUNNER = ROOT / "deploy" / "triton" / "runner"
SCHEMA = ModelSchema(
    (TensorSpec("X", DataType.FP32, (64,)),),
    (TensorSpec("label", DataType.INT64), TensorSpec("scores", DataType.FP32, (10,))),
)
SAMPLE = json.dumps({"instances": sample()}).encode()


@pytest.fixture
async def packages(tmp_path: Path) -> FolderPackageStore:
    quantizer = OnnxQuantizer(ROOT / ".venv-serving" / "bin" / "python", RUNNER.parent / "quantize.py")
    made = FolderPackageStore(tmp_path / "repository", runner=RUNNER, quantizer=quantizer)
    await made.start()
    return made


def package(model: Path, *, drop_max: float = 0.01, answer: str = "label") -> Package:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    of = replace(
        recipe(path=str(model), digest=digest), schema=SCHEMA, mapping=PredictionMapping(answer), reference_digest="d"
    )
    wish = Wish(serving=ServingOptions(precision="int8", accuracy_drop_max=drop_max))
    deployment = Deployment("id", NewDeployment("m", "v1.0.0", "main", wish), of, wish, Progress(), 1, NOON, NOON)
    return package_of(deployment, runner_digest="r", threads_default=1)


@pytest.mark.parametrize("answer", ["label", "scores"])
async def test_a_model_is_a_fourth_as_large_and_answers_as_before(
    packages: FolderPackageStore, tmp_path: Path, answer: str
) -> None:
    save_dense(tmp_path / "dense.onnx")
    wanted = package(tmp_path / "dense.onnx", answer=answer)
    await packages.ensure(wanted, SAMPLE)
    made = await packages.quantised(wanted)
    assert made.rows == 100
    assert made.changed <= 1
    assert made.bytes_after < 0.35 * made.bytes_before
    folder = tmp_path / "repository" / "m--v1.0.0" / "1"
    assert json.loads((folder / "serving.json").read_text())["artifact"] == QUANTISED
    written = (folder / QUANTISED).stat().st_mtime_ns
    await packages.ensure(wanted, SAMPLE)
    assert (folder / QUANTISED).stat().st_mtime_ns == written
    (folder / QUANTISED).write_bytes(b"rotten")
    await packages.ensure(wanted, SAMPLE)
    assert (folder / QUANTISED).stat().st_size == made.bytes_after


async def test_one_whose_answers_change_is_refused_unless_that_many_may(
    packages: FolderPackageStore, tmp_path: Path
) -> None:
    save_dense(tmp_path / "dense.onnx", outlier=1000.0)
    wanted = package(tmp_path / "dense.onnx")
    with pytest.raises(
        MeshError, match=r"of 100 answers on the reference sample change, and at most 1\.00%"
    ) as refused:
        await packages.ensure(wanted, SAMPLE)
    assert refused.value.reason is Reason.QUANTISATION_REFUSED
    assert not (tmp_path / "repository" / "m--v1.0.0").exists()
    allowed = package(tmp_path / "dense.onnx", drop_max=1.0)
    assert allowed.fingerprint != wanted.fingerprint
    await packages.ensure(allowed, SAMPLE)
    assert (await packages.quantised(allowed)).changed > 1


async def test_a_model_without_products_of_matrices_is_refused(packages: FolderPackageStore) -> None:
    digits = ROOT / ".build" / "digits" / "digits-v1.0.0.onnx"
    with pytest.raises(MeshError, match="deploy it as it was trained") as refused:
        await packages.ensure(package(digits), SAMPLE)
    assert refused.value.reason is Reason.QUANTISATION_REFUSED
