"""What packages look like for native backends: the files that each loads, and what falls back to the runner."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from services.common.artifacts.tar import canonical_tar
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.domain.deployment import Resources, Wish
from services.deployer.domain.equipment import NATIVE_BACKENDS, Equipment
from services.deployer.domain.package import ENVIRONMENT, Package, Served
from services.supervisor.settings import ROOT
from tests.support.triton_config_cases import SCHEMAS, package

ARTIFACTS = ROOT / "tests" / "data" / "artifacts"
FULL = Equipment(frozenset(NATIVE_BACKENDS), (0,))
F32 = DataType.FP32
SCRIPT = ModelSchema((TensorSpec("x", F32, (4,)),), (TensorSpec("label", DataType.INT64), TensorSpec("y", F32, (3,))))
GRAPH = ModelSchema((TensorSpec("kind", DataType.BYTES), TensorSpec("x", F32)), (TensorSpec("scores", F32, (2,)),))
ON_GPU = Wish(resources=Resources(gpu=1))


@pytest.fixture
async def packages(tmp_path: Path) -> FolderPackageStore:
    made = FolderPackageStore(tmp_path / "repository", runner=ROOT / "deploy" / "triton" / "runner")
    await made.start()
    return made


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return tmp_path / "repository" / "digits--v1.0.0" / "1"


def read(folder: Path) -> Mapping[str, bytes]:
    """The files of an artifact by their paths."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


def made_at(folder: Path) -> int:
    return folder.stat().st_mtime_ns


def stored(place: Path, files: Mapping[str, bytes]) -> Path:
    """A folder as the registry keeps it."""
    parts = ((name, len(content), [content]) for name, content in sorted(files.items()))
    place.write_bytes(b"".join(canonical_tar(parts)))
    return place


def of(
    framework: str,
    schema: ModelSchema,
    source: Path,
    *,
    kind: str = "file",
    wish: Wish = Wish(),  # noqa: B008 - a value
    equipment: Equipment = FULL,
) -> Package:
    """The package of an artifact."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    made = package(framework, schema, wish, equipment, kind=kind)
    return replace(made, artifact_path=str(source), artifact_digest=digest)


@pytest.mark.parametrize(
    ("wanted", "backend", "place"),
    [
        (of("onnx", SCHEMAS["onnx"][1], ARTIFACTS / "lightgbm-multiclass.txt"), "onnxruntime", "model.onnx"),
        (of("pytorch", SCRIPT, ARTIFACTS / "torchscript.pt"), "pytorch", "model.pt"),
        (of("xgboost", SCHEMAS["xgboost"][1], ARTIFACTS / "xgboost-iris.json"), "fil", "xgboost.json"),
        (of("xgboost", SCHEMAS["xgboost"][1], ARTIFACTS / "xgboost-iris.ubj"), "fil", "xgboost.ubj"),
        (of("lightgbm", SCHEMAS["lightgbm"][1], ARTIFACTS / "lightgbm-multiclass.txt"), "fil", "model.txt"),
    ],
)
async def test_a_file_is_where_its_backend_looks_for_it_and_nothing_of_the_runner_is(
    packages: FolderPackageStore, version: Path, wanted: Package, backend: str, place: str
) -> None:
    await packages.ensure(wanted)
    assert names(version) == {place, "serving.json"}
    assert hashlib.sha256((version / place).read_bytes()).hexdigest() == wanted.artifact_digest
    assert f'backend: "{backend}"' in (version.parent / "config.pbtxt").read_text()
    assert await packages.served(wanted) == Served(backend)
    written = made_at(version)
    await packages.ensure(wanted)
    assert made_at(version) == written, "what stands is left alone"


async def test_a_saved_model_and_an_onnx_file_with_its_weights_are_folders_of_their_own(
    packages: FolderPackageStore, version: Path, tmp_path: Path
) -> None:
    saved = read(ARTIFACTS / "savedmodel")
    nested = stored(tmp_path / "a.tar", {f"export/model/{name}": content for name, content in saved.items()})
    wanted = of("tensorflow", GRAPH, nested, kind="directory")
    await packages.ensure(wanted)
    assert read(version / "model.savedmodel") == saved
    assert names(version) == {"model.savedmodel", "serving.json"}
    assert await packages.served(wanted) == Served("tensorflow")

    files = {"MLmodel": b"flavors", "onnx/net.onnx": b"graph", "onnx/weights.bin": b"weights"}
    wanted = of("onnx", SCHEMAS["onnx"][1], stored(tmp_path / "b.tar", files), kind="directory")
    await packages.ensure(wanted)
    assert read(version / "model.onnx") == {"model.onnx": b"graph", "weights.bin": b"weights"}
    assert names(version) == {"model.onnx", "serving.json"}

    wanted = of(
        "xgboost",
        SCHEMAS["xgboost"][1],
        stored(tmp_path / "c.tar", read(ARTIFACTS / "mlflow-xgboost")),
        kind="directory",
    )
    await packages.ensure(wanted)
    assert (version / "xgboost.ubj").read_bytes() == (ARTIFACTS / "mlflow-xgboost" / "model.ubj").read_bytes()
    assert names(version) == {"xgboost.ubj", "serving.json"}


async def test_what_the_disk_damaged_is_made_anew(packages: FolderPackageStore, version: Path, tmp_path: Path) -> None:
    saved = read(ARTIFACTS / "savedmodel")
    boost = read(ARTIFACTS / "mlflow-xgboost")
    for framework, schema, files, place in (
        ("tensorflow", GRAPH, saved, "model.savedmodel/saved_model.pb"),
        ("xgboost", SCHEMAS["xgboost"][1], boost, "xgboost.ubj"),
    ):
        wanted = of(framework, schema, stored(tmp_path / f"{framework}.tar", files), kind="directory")
        await packages.ensure(wanted)
        right = (version / place).read_bytes()
        (version / place).chmod(0o644)
        (version / place).write_bytes(b"rotten")
        await packages.ensure(wanted)
        assert (version / place).read_bytes() == right
        (version / place).unlink()
        await packages.ensure(wanted)
        assert (version / place).read_bytes() == right


async def test_what_the_backend_cannot_load_is_the_runners_and_says_why(
    packages: FolderPackageStore, version: Path, tmp_path: Path
) -> None:
    wanted = of("pytorch", SCRIPT, ARTIFACTS / "exported.pt2")
    await packages.ensure(wanted)
    assert (version / "artifact").read_bytes() == (ARTIFACTS / "exported.pt2").read_bytes()
    assert {"model.py", "pytorch_adapter.py", "serving.json"} <= names(version)
    assert (version.parent / "config.pbtxt").read_text() == wanted.config
    served = await packages.served(wanted)
    assert served.words == (
        "the python runner runs it: its artifact is not TorchScript, which Triton's pytorch backend loads"
    )
    columns = of("xgboost", SCHEMAS["onnx-columns"][1], ARTIFACTS / "xgboost-iris.json")
    await packages.ensure(columns)
    assert "input__0 with all features of a row" in (await packages.served(columns)).words

    files = {"one.onnx": b"1", "two.onnx": b"2"}
    several = of("onnx", SCHEMAS["onnx"][1], stored(tmp_path / "two.tar", files), kind="directory")
    await packages.ensure(several)
    assert read(version / "model.onnx") == files, "the runner gets the folder as it came"
    assert "its folder holds 2 models" in (await packages.served(several)).words


async def test_what_neither_a_backend_nor_the_runner_can_do_fails_and_the_old_package_stays(
    packages: FolderPackageStore, version: Path, tmp_path: Path
) -> None:
    before = of("xgboost", SCHEMAS["xgboost"][1], ARTIFACTS / "xgboost-iris.json", wish=ON_GPU)
    await packages.ensure(before)
    early = tmp_path / "early.json"
    early.write_bytes(
        (ARTIFACTS / "xgboost-iris.json")
        .read_bytes()
        .replace(b'"attributes":{', b'"attributes":{"best_iteration":"1",')
    )
    with pytest.raises(
        MeshError, match=r"no GPU can run the version: .*build without CUDA, and it was stopped"
    ) as error:
        await packages.ensure(of("xgboost", SCHEMAS["xgboost"][1], early, wish=ON_GPU))
    assert error.value.reason is Reason.FRAMEWORK_UNSUPPORTED
    assert await packages.served(before) == Served("fil")
    assert (version / "xgboost.json").exists()
    assert not list((tmp_path / "repository.staging").iterdir())


async def test_a_package_of_the_runner_keeps_its_environment_and_a_native_one_lets_it_go(
    packages: FolderPackageStore, version: Path, tmp_path: Path
) -> None:
    source, schema = ARTIFACTS / "xgboost-iris.json", SCHEMAS["xgboost"][1]
    by_runner = of("xgboost", schema, source, equipment=Equipment())
    await packages.ensure(by_runner)
    assert (await packages.served(by_runner)).words == "", "without native backends it goes without saying"
    await packages.link(by_runner, tmp_path)
    await packages.ensure(replace(by_runner, fingerprint="another"))
    assert (version.parent / ENVIRONMENT).is_symlink()
    await packages.ensure(of("xgboost", schema, source))
    assert not (version.parent / ENVIRONMENT).is_symlink()


async def test_a_package_of_an_earlier_deployer_is_the_runners_and_stands(
    packages: FolderPackageStore, version: Path
) -> None:
    wanted = of("xgboost", SCHEMAS["xgboost"][1], ARTIFACTS / "xgboost-iris.json", equipment=Equipment())
    await packages.ensure(wanted)
    notes = version.parent / "package.artifact"
    said = json.loads(notes.read_text())
    notes.write_text(json.dumps({key: said[key] for key in ("digest", "files")}))
    written = made_at(version)
    await packages.ensure(wanted)
    assert made_at(version) == written
    assert await packages.served(wanted) == Served()
