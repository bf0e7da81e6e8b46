"""What every `ModelServer` over a `PackageStore` promises, shown for Triton over a folder and for their fakes."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.adapters.triton import TritonServer
from services.deployer.domain.catalog import Place
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Resources, Wish
from services.deployer.domain.package import Package, package_of
from services.deployer.domain.plan import ServerState
from services.deployer.domain.trial import check_answer, trial_inputs
from services.deployer.ports import ModelServer, PackageStore
from services.supervisor.parts.part import Part
from services.supervisor.process import Process
from services.supervisor.settings import ROOT
from tests.support.clock import NOON
from tests.support.deployer_fakes import DIGITS_SCHEMA, FakePackages, FakeServer, recipe
from tests.support.parts import loader_of, running, triton_in
from tests.support.waiting import eventually

NAME = "digits--v1.0.0"
ARTIFACT = ROOT / ".build" / "digits" / "digits-v1.0.0.onnx"


@dataclass
class Pair:
    """A server, the packages it loads, and how to kill it."""

    server: ModelServer
    packages: PackageStore
    kill: Callable[[], Awaitable[None]]


@pytest.fixture(params=["fake", "triton"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    if request.param == "fake":
        packages = FakePackages()
        fake = FakeServer(packages)
        yield Pair(fake, packages, lambda: asyncio.to_thread(fake.die))
        return
    part = triton_in(tmp_path)
    process = await Process.start(part, clock=SystemClock())
    await process.wait_ready()
    place = Place("triton-0", f"127.0.0.1:{part.ports['triton_http']}", f"127.0.0.1:{part.ports['triton_grpc']}")
    server = TritonServer(place, load_timeout_s=60)
    folder = FolderPackageStore(tmp_path / "repository", runner=ROOT / "deploy" / "triton" / "runner")
    await folder.start()

    async def kill() -> None:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()

    yield Pair(server, folder, kill)
    await server.close()
    await process.stop()


def package(pair: Pair, replicas: int = 1) -> Package:
    wish = Wish(resources=Resources(replicas=replicas))
    made_of = recipe(path=str(ARTIFACT), digest=hashlib.sha256(ARTIFACT.read_bytes()).hexdigest())
    deployment = Deployment(
        "id", NewDeployment("digits", "v1.0.0", "main", wish), made_of, wish, Progress(), 1, NOON, NOON
    )
    return package_of(deployment, runner_digest=pair.packages.runner_digest(), threads_default=1)


async def test_a_package_is_loaded_answers_is_loaded_anew_and_unloaded(pair: Pair) -> None:
    server = pair.server
    assert await server.observe() == ServerState(up=True)
    await pair.packages.ensure(package(pair))
    await server.load(NAME)
    assert (await server.observe()).ready == {NAME}
    check_answer(DIGITS_SCHEMA, 2, await server.infer(NAME, trial_inputs(DIGITS_SCHEMA, 2)))
    await pair.packages.ensure(package(pair, replicas=2))
    await server.load(NAME)
    check_answer(DIGITS_SCHEMA, 1, await server.infer(NAME, trial_inputs(DIGITS_SCHEMA, 1)))
    await server.unload(NAME)
    await server.unload(NAME)
    for _ in range(100):
        if NAME not in (await server.observe()).ready:
            break
        await asyncio.sleep(0.02)
    assert await server.observe() == ServerState(up=True)
    assert await server.software()


_WAITS = """
class TritonPythonModel:
    def initialize(self, args):
        # A pipe: until somebody opens its other end.
        open({go!r}).close()

    def execute(self, requests):
        return []
"""


async def test_while_one_is_loaded_others_answer_on_every_connection(tmp_path: Path) -> None:
    part, go = triton_in(tmp_path), tmp_path / "go"
    os.mkfifo(go)
    folder = FolderPackageStore(tmp_path / "repository", runner=ROOT / "deploy" / "triton" / "runner")
    await folder.start()
    server = loader_of(part)
    ready = f"http://127.0.0.1:{part.ports['triton_http']}/v2/models/{NAME}/ready"
    async with running(part), AsyncExitStack() as connections:
        await folder.ensure(package(Pair(server, folder, asyncio.Event().wait)))  # type: ignore[arg-type]
        await server.load(NAME)
        clients = [await connections.enter_async_context(httpx.AsyncClient(trust_env=False)) for _ in range(8)]
        for client in clients:
            assert (await client.get(ready)).is_success
        waits = tmp_path / "repository" / "waits" / "1"
        waits.mkdir(parents=True)
        (waits / "model.py").write_text(_WAITS.format(go=str(go)))
        (waits.parent / "config.pbtxt").write_text('backend: "python"')
        loading = asyncio.create_task(server.load("waits"), name="a load")
        await eventually(lambda: _is_loading(part, "waits"), what="the load has begun")
        try:
            for client in clients:
                assert (await client.get(ready, timeout=10)).is_success
            assert (await server.observe()).ready == {NAME}
            check_answer(DIGITS_SCHEMA, 1, await server.infer(NAME, trial_inputs(DIGITS_SCHEMA, 1)))
            assert not loading.done()
        finally:
            # Nothing is written: who waits may have closed its end by then.
            await asyncio.to_thread(go.write_text, "")
            await loading
        await server.close()


def _is_loading(part: Part, name: str) -> bool:
    return f"loading: {name}:1" in part.log_path.read_text()


async def test_what_the_repository_does_not_hold_cannot_be_loaded(pair: Pair) -> None:
    with pytest.raises(MeshError) as failed:
        await pair.server.load(NAME)
    assert failed.value.reason is Reason.LOAD_FAILED
    await pair.packages.ensure(package(pair))
    await pair.packages.remove(NAME)
    await pair.packages.remove(NAME)
    with pytest.raises(MeshError, match=NAME):
        await pair.server.load(NAME)


async def test_what_is_not_loaded_cannot_be_tried(pair: Pair) -> None:
    with pytest.raises(MeshError) as failed:
        await pair.server.infer(NAME, trial_inputs(DIGITS_SCHEMA, 1))
    assert failed.value.reason is Reason.WARMUP_FAILED


async def test_a_dead_server_says_nothing_and_every_call_says_that(pair: Pair) -> None:
    await pair.kill()
    server = pair.server
    assert await server.observe() == ServerState()
    assert await server.software() == ""
    for call in (server.load(NAME), server.unload(NAME), server.infer(NAME, trial_inputs(DIGITS_SCHEMA, 1))):
        with pytest.raises(MeshError) as failed:
            await call
        assert failed.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_folder_is_whole_or_absent_and_refuses_what_was_not_registered(tmp_path: Path) -> None:
    folder = FolderPackageStore(tmp_path / "repository", runner=ROOT / "deploy" / "triton" / "runner")
    await folder.start()
    pair = Pair(FakeServer(FakePackages()), folder, asyncio.Event().wait)  # type: ignore[arg-type]
    right = package(pair)
    with pytest.raises(MeshError) as corrupt:
        await folder.ensure(replace(right, artifact_digest="f" * 64))
    assert corrupt.value.reason is Reason.ARTIFACT_CORRUPT
    for path in ("", str(tmp_path / "gone.onnx")):
        with pytest.raises(MeshError) as missing:
            await folder.ensure(replace(right, artifact_path=path))
        assert missing.value.reason is Reason.ARTIFACT_NOT_FOUND
    assert list((tmp_path / "repository").iterdir()) == []
    assert list((tmp_path / "repository.staging").iterdir()) == []
    await folder.ensure(right)
    inode = (tmp_path / "repository" / NAME / "1" / "model.onnx").stat().st_ino
    await folder.ensure(right)
    # Nothing was built again.
    assert (tmp_path / "repository" / NAME / "1" / "model.onnx").stat().st_ino == inode
    runner = {file.name for file in (ROOT / "deploy" / "triton" / "runner").glob("*.py")}
    assert "model.py" in runner
    names = {file.name for file in (tmp_path / "repository" / NAME / "1").iterdir()}
    assert names == {"model.onnx", "serving.json", *runner}
