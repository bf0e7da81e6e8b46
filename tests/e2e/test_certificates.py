"""A mesh in which everybody shows certificates: the gateway to callers, services and gateway to each other."""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest
from infermesh.client import Client
from infermesh.client.credentials import Credentials
from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.supervisor.settings import ROOT
from tests.e2e.driving import TIMEOUT_S, bearer
from tests.support.mesh import Mesh, start_mesh, stop_mesh


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh of its own, with a limiter and a batcher beside the gateway: every connection there is."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TLS": "local", "PEER_TLS": "on", "LIMITER": "on", "BATCHERS": "1"}.items():
            patch.setenv(f"INFERMESH_{name}", value)
        running = start_mesh(tmp_path_factory.mktemp("encrypted") / "data")
    yield running
    stop_mesh(running)


def authority(mesh: Mesh) -> Path:
    return mesh.data_dir / "tls" / "ca.crt"


def test_callers_who_trust_the_authority_predict_over_rest_and_grpc(encrypted: Mesh) -> None:
    sample = encrypted.samples[0]
    with httpx.Client(
        base_url=f"https://{encrypted.gateway}",
        verify=ssl.create_default_context(cafile=str(authority(encrypted))),
        trust_env=False,
        timeout=TIMEOUT_S,
        headers=bearer(encrypted.key),
    ) as http:
        answer = http.post("/v1/models/digits/predict", json={"instances": [sample["instance"]]})
        assert answer.json()["predictions"][0]["class"] == str(sample["label"]), answer.text
    with Client(
        f"https://{encrypted.gateway}",
        credentials=Credentials(encrypted.key, authority(encrypted)),
        timeout_s=TIMEOUT_S,
    ) as client:
        assert client.teams.caller().role == "platform-admin"
        assert client.predict("digits", [sample["instance"]]).predictions[0].label == str(sample["label"])
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://{encrypted.gateway}/health", timeout=TIMEOUT_S, trust_env=False)
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{encrypted.gateway}/health", timeout=TIMEOUT_S, trust_env=False)


def test_all_parts_say_that_they_are_well_and_a_job_goes_its_way(encrypted: Mesh, tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "COLUMNS": "140",
        "INFERMESH_GATEWAY": f"https://{encrypted.gateway}",
        "INFERMESH_API_KEY": encrypted.key,
        "INFERMESH_CA_FILE": str(authority(encrypted)),
    }

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("infermesh")), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    parts = json.loads(run("status", "--json"))
    assert "away" not in json.dumps(parts)
    job = (str(ROOT / ".build/digits/holdout.jsonl"), str(output), "--key", "id", "--follow")
    run("batch", "submit", "digits", *job)
    assert len(output.read_text().splitlines()) == len((ROOT / ".build/digits/holdout.jsonl").read_text().splitlines())


@pytest.mark.parametrize("part", ["registry", "router", "deployer", "batch", "monitor", "limiter", "batcher"])
def test_who_shows_no_certificate_is_not_spoken_to(encrypted: Mesh, part: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{encrypted.port(part)}") as channel:
        stub = team_service_pb2_grpc.TeamServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.CreateOperatorKey(team_service_pb2.CreateOperatorKeyRequest(name="mine"), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
