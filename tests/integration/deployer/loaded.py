"""Digits, loaded in a real Triton without a deployer."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.adapters.triton import TritonServer
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Resources, Wish
from services.deployer.domain.package import package_of
from services.supervisor.settings import ROOT
from tests.integration.deployer.driving import DIGITS, Triton
from tests.support.clock import NOON
from tests.support.deployer_fakes import recipe
from tests.support.parts import loader_of

NAME = "digits--v1.0.0"


@asynccontextmanager
async def loading(triton: Triton, tmp_path: Path) -> AsyncIterator[TritonServer]:
    """The server's client, with digits loaded in two copies."""
    server = loader_of(triton.part)
    packages = FolderPackageStore(tmp_path / "repository", runner=ROOT / "deploy" / "triton" / "runner")
    await packages.start()
    artifact = DIGITS / "digits-v1.0.0.onnx"
    made_of = recipe(path=str(artifact), digest=hashlib.sha256(artifact.read_bytes()).hexdigest())
    wish = Wish(resources=Resources(replicas=2))
    new = NewDeployment("digits", "v1.0.0", "main", wish)
    deployment = Deployment("id", new, made_of, wish, Progress(), 1, NOON, NOON)
    await packages.ensure(package_of(deployment, runner_digest=packages.runner_digest(), threads_default=1))
    await server.load(NAME)
    yield server
    await server.close()


def address(triton: Triton) -> str:
    return f"127.0.0.1:{triton.part.ports['triton_http']}"
