"""What fills a pod's model repository, through a gateway that asks for a key, over TLS: the operator's key of a team
reads what its team sees, and nothing else."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from infermesh.registry.v1 import artifact_service_pb2, artifact_service_pb2_grpc, registry_service_pb2
from infermesh.registry.v1 import registry_service_pb2_grpc as registry_grpc

from services.common.access.decide import Facts, Standing, decide
from services.common.access.policy import rule_of
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.identity import identity_of
from services.common.grpc.tls import AUTHORITY, PublicTls
from services.operator.adapters.registry import RegistryFetchKeys
from services.operator.domain.fetch_key import FetchKey
from tests.integration.router.driving import PlayedDeployer, Surroundings
from tests.support.certificates import certificates
from tests.support.fetching import fetch
from tests.support.guarded_mesh import GuardedMesh, guarded_mesh
from tests.support.registry_driving import OLD, digits
from tests.support.registry_team import make_team, member, models_by
from tests.support.waiting import eventually

PREDICT = "/infermesh.prediction.v1.PredictionService/Predict"


@pytest.fixture
def shown(tmp_path: Path) -> Path:
    """The certificate that the gateway shows."""
    return certificates(tmp_path / "tls", "gateway", authority=tmp_path / "authority")


@pytest.fixture
async def mesh(database_url: str, tmp_path: Path, shown: Path) -> AsyncIterator[GuardedMesh]:
    deployer = PlayedDeployer()
    await deployer.start()
    async with guarded_mesh(Surroundings(database_url, deployer), tmp_path, tls=shown) as running:
        assert running.registry.channel is not None
        for team in ("vision", "audio"):
            await make_team(running.registry.channel, team)
        await models_by(running.registry.channel, member("vision")).CreateModel(digits(OLD))
        yield running
    await deployer.stop()


async def key_of(mesh: GuardedMesh, team: str) -> FetchKey:
    """What the operator puts into the namespace of a team."""
    assert mesh.registry.channel is not None
    keys = RegistryFetchKeys(mesh.registry.channel, revoked=lambda _: False)
    return await keys.make(team, ends_at=SystemClock().now() + timedelta(days=1))


async def fetched(mesh: GuardedMesh, folder: Path, shown: Path, key: str) -> tuple[int, str]:
    """The exit code, and the last line, which a cluster shows."""
    told = {"API_KEY": key, "TLS_CA": str(shown / AUTHORITY), "PATIENCE_S": "5"}
    code, said = await fetch(folder, mesh.address, **told)
    assert not any(key and key in line for line in said), "the key was said aloud"
    return code, said[-1]


async def test_the_key_of_its_team_fetches_and_no_other(mesh: GuardedMesh, tmp_path: Path, shown: Path) -> None:
    vision, audio = await key_of(mesh, "vision"), await key_of(mesh, "audio")
    code, said = await fetched(mesh, tmp_path / "own", shown, vision.secret)
    assert code == 0, said
    assert (tmp_path / "own" / "repository" / f"digits--{OLD}" / "config.pbtxt").is_file()
    code, said = await fetched(mesh, tmp_path / "others", shown, audio.secret)
    assert (code, said[: said.index(":")]) == (1, "MODEL_NOT_FOUND")
    code, said = await fetched(mesh, tmp_path / "none", shown, "")
    assert (code, said[: said.index(":")]) == (1, "UNAUTHENTICATED")
    # Shared with it, the version may be run by the other team too.
    assert mesh.registry.channel is not None
    shared = registry_service_pb2.ShareModelRequest(model_name="digits", team="audio")
    await models_by(mesh.registry.channel, member("vision")).ShareModel(shared)
    code, said = await fetched(mesh, tmp_path / "others", shown, audio.secret)
    assert code == 0, said
    await mesh.revoke("vision", vision.key_id)

    async def is_refused() -> bool:
        return (await fetched(mesh, tmp_path / "late", shown, vision.secret))[1].startswith("UNAUTHENTICATED: ")

    await eventually(is_refused, what="a revoked key fetches nothing", timeout_s=30)


async def test_such_a_key_neither_predicts_nor_changes_anything(mesh: GuardedMesh, shown: Path) -> None:
    key = await key_of(mesh, "vision")
    tls = PublicTls(shown / AUTHORITY)
    caller = identity_of((await mesh.predict(key.secret)).json()["headers"])
    assert (caller.team, caller.role, caller.key_id) == ("vision", "viewer", key.key_id)
    assert caller.scopes == {"models.read"}
    # The batcher here is played; the real one asks this.
    refusal = decide(rule_of(PREDICT), caller, Facts(model="digits", standing=Standing("vision")))
    assert refusal is not None
    assert refusal.reason is Reason.PERMISSION_DENIED
    async with open_channel(mesh.address, tls=tls, bearer=key.secret) as channel:
        registry = registry_grpc.RegistryServiceStub(channel)
        with pytest.raises(MeshError) as refused:
            await registry.CreateModel(digits(OLD))
        assert refused.value.reason is Reason.PERMISSION_DENIED
        with pytest.raises(MeshError) as refused:
            await registry.SetStage(registry_service_pb2.SetStageRequest(model_name="digits", version=OLD))
        assert refused.value.reason is Reason.PERMISSION_DENIED
        artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        with pytest.raises(MeshError) as refused:
            await artifacts.CollectGarbage(artifact_service_pb2.CollectGarbageRequest())
        assert refused.value.reason is Reason.PERMISSION_DENIED


async def test_certificates_that_are_not_there_are_told(tmp_path: Path) -> None:
    code, said = await fetch(tmp_path, "127.0.0.1:1", TLS_CA=str(tmp_path / "ca.crt"))
    assert code == 1
    assert said[-1].startswith("INVALID_FIELD: ")
    assert "INFERMESH_FETCH_TLS_CA" in said[-1]
