"""The real Triton reads every configuration for a native backend, and misses nothing but the backend itself."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import MeshError
from services.deployer.adapters.triton import TritonServer
from services.deployer.domain.catalog import Place
from tests.support.parts import running, triton_in
from tests.support.triton_config_cases import Case, cases

NAME = "digits--v1.0.0"
NATIVE = [case for case in cases() if isinstance(case, Case) and case.backend != "python"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TritonServer]:
    part = triton_in(tmp_path)
    async with running(part):
        http, grpc = part.ports["triton_http"], part.ports["triton_grpc"]
        client = TritonServer(Place("triton-0", f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"), load_timeout_s=30)
        yield client
        await client.close()


async def told(server: TritonServer, folder: Path, config: str) -> str:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "config.pbtxt").write_text(config)
    with pytest.raises(MeshError) as refused:
        await server.load(NAME)
    return refused.value.message


async def test_triton_understands_them(server: TritonServer, tmp_path: Path) -> None:
    folder = tmp_path / "repository" / NAME
    assert {case.backend for case in NATIVE} == {"onnxruntime", "pytorch", "tensorflow", "fil"}
    for case in NATIVE:
        message = await told(server, folder, case.config)
        assert f"unable to find backend library for backend '{case.backend}'" in message, f"{case.name}: {message}"
    # That it says so only of what it could read:
    sample = NATIVE[0].config
    for wrong in (sample.replace("string_value", "text_value"), re.sub(r"dims: \[ -1.*?\]", "dims: [ -7 ]", sample)):
        assert wrong != sample
        assert "unable to find backend library" not in await told(server, folder, wrong)
