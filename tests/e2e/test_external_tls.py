"""A model that MLServer runs behind TLS: deployed, predicted, shown a token, and not mistaken for another."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.driving import OLD, Rest, reason, registration
from tests.e2e.test_cli import run
from tests.e2e.test_external import images, stripe
from tests.support.mesh import Mesh
from tests.support.model_servers import ServerProcess, mlserver
from tests.support.tls_relay import TlsRelay, tls_relay
from tests.support.waiting import until

NAME = "sealed"
PATH = f"/v1/models/{NAME}/deployments"
TOKEN = "t0ken-of-the-owner"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    made = mlserver(tmp_path_factory.mktemp("mlserver"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def relay(mesh: Mesh, server: ServerProcess) -> Iterator[TlsRelay]:
    """Its REST side, with a certificate that the mesh believes."""
    with tls_relay(mesh.outside, server.rest_port) as made:
        yield made


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[Rest]:
    """One registered version of ours, which says whose the model is."""
    rest = Rest(mesh.gateway, mesh.key)
    rest.ok("POST", "/v1/models", json=registration(NAME, OLD))
    yield rest
    rest.close()


def test_it_is_shown_the_token_of_its_owner_with_every_call(mesh: Mesh, rest: Rest, relay: TlsRelay) -> None:
    servers = f"oip-rest=https://127.0.0.1:{relay.port}"
    team = rest.ok("GET", f"/v1/models/{NAME}").get("team", "")
    (mesh.outside / "tokens" / team).mkdir(parents=True, exist_ok=True)
    arguments = ("deploy", NAME, "v2.0.0", "--external", servers, "--server-model", "pixels", "--credentials", "owner")
    refused = run(mesh, *arguments, code=4)
    assert "put the token into the file" in refused.stderr
    (mesh.outside / "tokens" / team / "owner").write_text(TOKEN)
    run(mesh, *arguments)
    row = images(mesh)[0]
    answer = rest.predict({"version": "v2.0.0", "instances": [{"X": row}]}, model=NAME)
    assert answer["predictions"][0]["output"] == stripe(row)
    assert relay.heads
    assert all(
        f"\r\nauthorization: bearer {TOKEN}\r\n" in head.decode(errors="replace").lower() for head in relay.heads
    )
    shown = rest.call("GET", PATH).text + "".join(log.read_text() for log in (mesh.data_dir / "logs").glob("*.log"))
    assert "owner" in shown
    assert TOKEN not in shown
    run(mesh, "undeploy", NAME, "v2.0.0")


def test_who_is_not_believed_is_not_asked(mesh: Mesh, rest: Rest, server: ServerProcess, tmp_path: Path) -> None:
    with tls_relay(tmp_path, server.grpc_port) as stranger:
        backend = {
            "protocol": "oip-grpc",
            "addresses": [f"grpcs://127.0.0.1:{stranger.port}"],
            "server_model_name": "pixels",
        }
        wish = {"deployment_name": "stranger", "external_backend": backend}
        error = rest.refused(503, "POST", PATH, json={**wish, "version": "v3.0.0"})
        assert reason(error) == "DEPENDENCY_UNAVAILABLE"
        assert "authority that is not believed here" in error["message"]
        # Of a registered version the registry's schema holds, and it is the deployment that says so.
        rest.ok("POST", PATH, json={**wish, "version": OLD})
        until(
            lambda: "INFERMESH_EXTERNAL_CA" in rest.ok("GET", f"{PATH}/stranger").get("error_message", ""),
            what="people are told what to do",
        )
        assert rest.ok("GET", f"{PATH}/stranger")["status"] == "deploying"
        assert stranger.heads == []
        rest.ok("DELETE", f"{PATH}/stranger")
