"""Imports into a running registry: from a file store and a server of MLflow, and from a repository of Triton."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from infermesh.registry.v1 import registry_service_pb2

from services.common.errors import MeshError, Reason
from services.registry.settings import RegistrySettings
from tests.support.registry_driving import Registry
from tests.support.registry_onnx import model
from tests.support.registry_reading import ARTIFACTS

MLRUNS = ARTIFACTS.parent / "mlruns"
ONNX = model().SerializeToString()
API, ARTIFACTS_API = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"
MLMODEL = b"flavors:\n  onnx:\n    data: model.onnx\n"
Import = registry_service_pb2.ImportModelsRequest
GetVersion = registry_service_pb2.GetModelVersionRequest


class Answers(BaseHTTPRequestHandler):
    """A server of MLflow with one model of three versions, as its REST API is documented."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        path = unquote(url.path)
        answer = self.answer(path, query)
        if isinstance(answer, int):
            self.send_response(answer)
            self.send_header("location", "http://127.0.0.1:1/")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, path: str, query: dict[str, str]) -> object:
        if path.startswith(f"{ARTIFACTS_API}/1/m/artifacts/"):
            return {"MLmodel": MLMODEL, "model.onnx": ONNX}[path.rpartition("/")[2]]
        answers = {
            f"{API}/registered-models/search": self.models,
            f"{API}/model-versions/search": self.versions,
            f"{API}/runs/get": self.run,
            f"{API}/model-versions/get-download-uri": lambda _: {"artifact_uri": "mlflow-artifacts:/1/m/artifacts"},
            ARTIFACTS_API: self.files,
        }
        return answers[path](query) if path in answers else 302

    def models(self, query: dict[str, str]) -> object:
        if "page_token" not in query:
            return {"registered_models": [{"name": "Fraud"}], "next_page_token": "second"}
        aliases = [{"alias": "champion", "version": "2"}]
        return {"registered_models": [{"name": "flowers", "description": "Of three kinds.", "aliases": aliases}]}

    def versions(self, query: dict[str, str]) -> object:
        assert query["filter"].startswith("name='")
        if "Fraud" in query["filter"]:
            return {}
        of = {"name": "flowers"}
        tags = [{"key": "checked", "value": "yes"}]
        return {
            "model_versions": [
                {**of, "version": "10", "current_stage": "None", "status": "FAILED_REGISTRATION"},
                {**of, "version": "2", "current_stage": "Production", "status": "READY", "run_id": "r2", "tags": tags},
                {**of, "version": "1", "current_stage": "Archived", "status": "READY", "run_id": "gone"},
            ]
        }

    def run(self, query: dict[str, str]) -> object:
        if query["run_id"] != "r2":
            return 404
        data = {
            "metrics": [{"key": "accuracy", "value": 0.9, "timestamp": 1, "step": 0}],
            "params": [{"key": "depth", "value": "3"}],
            "tags": [{"key": "mlflow.user", "value": "ada"}],
        }
        return {"run": {"info": {"run_id": "r2"}, "data": data}}

    def files(self, query: dict[str, str]) -> object:
        assert query["path"] == "1/m/artifacts"
        files = [("MLmodel", len(MLMODEL)), ("model.onnx", len(ONNX))]
        return {"files": [{"path": name, "is_dir": False, "file_size": size} for name, size in files]}

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    running = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=running.serve_forever, name="mlflow")
    thread.start()
    yield running
    running.shutdown()
    thread.join(10)
    running.server_close()


@pytest.fixture
async def allowed(settings: RegistrySettings, server: ThreadingHTTPServer) -> AsyncIterator[Registry]:
    """A registry that may import from that server."""
    hosts = f"127.0.0.1:{server.server_port}"
    running = Registry(settings.model_copy(update={"import_hosts": hosts}))
    await running.start()
    yield running
    await running.stop()


async def outcomes(registry: Registry, **change: object) -> dict[str, str]:
    answer = await registry.calls.ImportModels(Import(**change), timeout=60)  # type: ignore[arg-type]
    return {one.source_name: f"{one.outcome}{': ' if one.message else ''}{one.message}" for one in answer.versions}


async def test_a_file_store_of_mlflow_comes_in_whole_and_twice_is_once(registry: Registry) -> None:
    names = ("models:/Fraud Check/1", "models:/Fraud Check/2")
    assert await outcomes(registry, source="mlflow", uri=MLRUNS.as_uri(), dry_run=True) == dict.fromkeys(
        names, "registered"
    )
    with pytest.raises(MeshError):
        await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="fraud-check"))
    assert await outcomes(registry, source="mlflow", uri=MLRUNS.as_uri()) == dict.fromkeys(names, "registered")
    again = await outcomes(registry, source="mlflow", uri=MLRUNS.as_uri())
    assert again == dict.fromkeys(names, "present")
    assert await outcomes(registry, source="mlflow", uri=MLRUNS.as_uri(), name_prefix="Other") == {}
    version = await registry.calls.GetModelVersion(GetVersion(model_name="fraud-check", version="champion"))
    assert (version.version, version.framework, version.framework_version) == ("v1.0.0", "xgboost", "3.2.0")
    assert version.lineage.training_run.startswith("mlflow:")
    assert version.lineage.hyperparameters["max_depth"] == "1"
    assert (version.lineage.trained_by, list(version.tags)) == ("ada", ["domain=payments"])
    assert version.training_metrics["accuracy"] == pytest.approx(0.81)
    assert version.schema_source == "artifact"
    found = await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="fraud-check"))
    assert found.description == "Finds fraud."


async def test_a_server_of_mlflow_hands_on_what_it_holds(allowed: Registry, server: ThreadingHTTPServer) -> None:
    uri = f"http://127.0.0.1:{server.server_port}"
    first = await outcomes(allowed, source="mlflow", uri=uri)
    assert first["models:/flowers/1"] == first["models:/flowers/2"] == "registered"
    assert "FAILED_REGISTRATION" in first["models:/flowers/10"]
    assert (await outcomes(allowed, source="mlflow", uri=uri))["models:/flowers/2"] == "present"
    version = await allowed.calls.GetModelVersion(GetVersion(model_name="flowers", version="champion"))
    # An ONNX file is registered by itself, so that it can be deployed.
    assert (version.artifact_kind, version.artifact_filename, version.stage) == ("file", "model.onnx", "active")
    assert (version.lineage.training_run, version.lineage.trained_by) == ("mlflow:r2", "ada")
    assert list(version.aliases) == ["champion", "production"]
    old = await allowed.calls.GetModelVersion(GetVersion(model_name="flowers", version="v1.0.0"))
    assert (old.stage, old.lineage.training_run) == ("archived", "mlflow:gone")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("http://127.0.0.1:5000", Reason.PERMISSION_DENIED),
        ("http://169.254.169.254/latest", Reason.PERMISSION_DENIED),
        ("https://localhost", Reason.PERMISSION_DENIED),
        ("http://user@host/", Reason.INVALID_FIELD),
        ("http://[", Reason.INVALID_FIELD),
        ("ftp://host/", Reason.INVALID_FIELD),
        ("", Reason.INVALID_FIELD),
    ],
)
async def test_only_hosts_that_are_allowed_are_asked(registry: Registry, uri: str, reason: Reason) -> None:
    with pytest.raises(MeshError) as caught:
        await registry.calls.ImportModels(Import(source="mlflow", uri=uri))
    assert caught.value.reason is reason
    assert reason is not Reason.PERMISSION_DENIED or "INFERMESH_REGISTRY_IMPORT_HOSTS" in caught.value.message


@pytest.mark.parametrize("place", ["/proc/self", "/", "data"])
async def test_what_is_the_registrys_alone_is_not_looked_into(registry: Registry, tmp_path: Path, place: str) -> None:
    for source in ("mlflow", "triton"):
        with pytest.raises(MeshError) as caught:
            await registry.calls.ImportModels(Import(source=source, uri=(tmp_path / place).as_uri()))
        assert caught.value.reason is Reason.PERMISSION_DENIED


async def test_redirections_are_not_followed_and_no_server_is_said_so(
    allowed: Registry, server: ThreadingHTTPServer
) -> None:
    with pytest.raises(MeshError) as caught:
        await allowed.calls.ImportModels(
            Import(source="mlflow", uri=f"http://127.0.0.1:{server.server_port}/elsewhere")
        )
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert "redirection" in caught.value.message
    with pytest.raises(MeshError) as caught:
        await allowed.calls.ImportModels(Import(source="oracle", uri="file:///"))
    assert caught.value.violations[0].field == "source"


async def test_a_repository_of_triton_comes_in_by_its_files(registry: Registry, tmp_path: Path) -> None:
    place = tmp_path / "repository" / "flowers"
    for number in (1, 2):
        (place / str(number)).mkdir(parents=True)
        (place / str(number) / "model.onnx").write_bytes(ONNX)
    (place / "3").mkdir()
    (place / "config.pbtxt").write_text('platform: "onnxruntime_onnx"\n')
    answered = await outcomes(registry, source="triton", uri=(tmp_path / "repository").as_uri())
    assert (answered["flowers/1"], answered["flowers/2"]) == ("registered", "registered")
    assert answered["flowers/3"].startswith("failed: ")
    version = await registry.calls.GetModelVersion(GetVersion(model_name="flowers", version="v2.0.0"))
    assert (version.framework, version.artifact_filename) == ("onnx", "model.onnx")
