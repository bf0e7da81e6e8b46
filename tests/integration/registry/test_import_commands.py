"""`infermesh models inspect`, `compare` and `import`, signatures and rules of teams, against a running registry."""

import asyncio
import json
from pathlib import Path

import pytest
from infermesh.client.cli.app import build_app
from infermesh.registry.v1 import registry_service_pb2
from sqlalchemy import text
from typer.testing import CliRunner, Result

from services.common.database import create_engine
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import HEADER_ROLE, HEADER_TEAM, HEADER_USER
from services.common.schema import DataType
from services.registry.adapters.database import SCHEMA
from services.registry.settings import RegistrySettings
from tests.integration.registry.test_import import MLRUNS, ONNX
from tests.support.registry_driving import NEW, OLD, Create, Registry, digits
from tests.support.registry_reading import ARTIFACTS

SIGNED = (ARTIFACTS.parent / "signatures" / "savedmodel.sig").read_bytes()


async def run(registry: Registry, *words: str) -> Result:
    environment = {"INFERMESH_GATEWAY": registry.address, "COLUMNS": "200"}
    return await asyncio.to_thread(CliRunner().invoke, build_app(), list(words), env=environment)


async def test_inspect_tells_what_would_be_registered(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "flowers.onnx").write_bytes(ONNX)
    seen = await run(registry, "models", "inspect", str(tmp_path / "flowers.onnx"))
    assert seen.exit_code == 0, seen.output
    assert all(word in seen.stdout for word in ("onnx", "X", DataType.FP32, "probabilities"))
    folder = await run(registry, "models", "inspect", str(ARTIFACTS / "savedmodel"), "--json")
    report = json.loads(folder.stdout)
    assert (report["framework"], report["framework_version"], report["problems"]) == ("tensorflow", "2.21.0", [])
    code = await run(registry, "models", "inspect", str(ARTIFACTS / "mlflow-pyfunc"))
    assert code.exit_code == 1
    assert "INFERMESH_REGISTRY_ALLOW_UNSAFE_ARTIFACTS" in code.stdout


async def test_compare_says_whom_a_version_breaks(registry: Registry) -> None:
    await registry.calls.CreateModel(digits(OLD, stage="active"))
    narrower = {"inputs": [{"name": "X", "data_type": "DATA_TYPE_FP32", "shape": [64], "minimum": 0, "maximum": 8}]}
    await registry.calls.CreateModel(digits(NEW, schema=narrower, input_schema={}))
    broken = await run(registry, "models", "compare", "digits", NEW)
    same = await run(registry, "models", "compare", "digits", NEW, "--base", NEW)
    assert (same.exit_code, "the same" in same.stdout) == (0, True), same.output
    assert (broken.exit_code, "range" in broken.stdout, "keep within 0 to 8" in broken.stdout) == (1, True, True)
    changes = json.loads((await run(registry, "models", "compare", "digits", NEW, "--json")).stdout)["changes"]
    assert [(one["name"], one["kind"], one["breaking"]) for one in changes] == [("X", "range", True)]


async def test_import_lists_what_became_of_each_version(registry: Registry) -> None:
    planned = await run(registry, "models", "import", "mlflow", str(MLRUNS), "--dry-run")
    assert (planned.exit_code, "nothing was done" in planned.stdout) == (0, True), planned.output
    done = await run(registry, "models", "import", "mlflow", str(MLRUNS), "--json")
    assert {one["outcome"] for one in json.loads(done.stdout)["versions"]} == {"registered"}
    refused = await run(registry, "models", "import", "mlflow", "http://127.0.0.1:5000")
    assert refused.exit_code == 7
    assert "INFERMESH_REGISTRY_IMPORT_HOSTS" in refused.output


def saved(signature: bytes) -> Create:
    """The registration of a folder with a signature."""
    return Create(name="saved", version=OLD, artifact_uri=(ARTIFACTS / "savedmodel").as_uri(), signature=signature)


async def test_a_signature_by_nobody_who_is_trusted_is_told_and_keeps_nothing_out(registry: Registry) -> None:
    for content, kind in ((b"nonsense", "public-key"), (SIGNED, "sigstore")):
        made = await registry.calls.CreateModel(saved(content))
        assert (made.signature.verified, made.signature.kind) == (False, kind)
        assert "trusted_signers" in made.signature.problem
    assert "not verified" in (await run(registry, "models", "show", "saved", OLD)).stdout


async def test_a_signed_folder_of_a_team_is_verified_until_its_signer_is_no_longer_trusted(
    registry: Registry, settings: RegistrySettings
) -> None:
    engine = create_engine(settings.database_url.get_secret_value(), schema=SCHEMA, pool_size=1)
    key = (ARTIFACTS.parent / "signatures" / "key.pub").read_text()
    insert = text("INSERT INTO teams (name, namespace, trusted_signers) VALUES ('vision', 'vision', ARRAY[:key])")
    async with engine.begin() as connection:
        await connection.execute(insert, {"key": key})
    caller = ((HEADER_ROLE, "deployer"), (HEADER_TEAM, "vision"), (HEADER_USER, "ada"))
    made = await registry.calls.CreateModel(saved(SIGNED), metadata=caller)
    assert (made.signature.verified, made.signature.problem) == (True, "")
    assert made.signature.signer.startswith("sha256:")
    asked = registry_service_pb2.GetModelVersionRequest(model_name="saved", version=OLD)
    assert (await registry.calls.GetModelVersion(asked, metadata=caller)).signature == made.signature
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE teams SET trusted_signers = '{}'"))
    found = await registry.calls.GetModelVersion(asked, metadata=caller)
    assert (found.signature.verified, "trusted_signers" in found.signature.problem) == (False, True)
    await engine.dispose()


async def test_code_is_taken_where_a_team_allows_it(registry: Registry, settings: RegistrySettings) -> None:
    caller = ((HEADER_ROLE, "deployer"), (HEADER_TEAM, "vision"), (HEADER_USER, "ada"))
    engine = create_engine(settings.database_url.get_secret_value(), schema=SCHEMA, pool_size=1)
    async with engine.begin() as connection:
        await connection.execute(text("INSERT INTO teams (name, namespace) VALUES ('vision', 'vision')"))
    request = Create(name="code", version=OLD, artifact_uri=(ARTIFACTS / "mlflow-pyfunc").as_uri())
    with pytest.raises(MeshError) as caught:
        await registry.calls.CreateModel(request, metadata=caller)
    assert caught.value.reason is Reason.ARTIFACT_INVALID
    assert "'vision' does not allow" in caught.value.message
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE teams SET allow_unsafe_artifacts = true"))
    made = await registry.calls.CreateModel(request, metadata=caller)
    assert (made.framework, made.artifact_kind) == ("python", "directory")
    await engine.dispose()
