"""A real batcher process, in its Envoy, over TLS to a model server of somebody else: by HTTP, and by gRPC."""

import re
from pathlib import Path

import httpx
from infermesh.common.v1 import serving_pb2

from services.common.schema import PredictionMapping
from tests.support.batcher_faces_calls import address_of
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.model_servers import ECHO, mlserver
from tests.support.parts import running
from tests.support.tls_relay import TlsRelay, tls_relay

REST, OVER_GRPC = "v1.0.0", "v2.0.0"


def table(rest: TlsRelay, over_grpc: TlsRelay) -> serving_pb2.ServedModel:
    """A model with a version by each protocol, both of which show a token."""
    made = served_model(REST, OVER_GRPC, name="m", schema=ECHO, mapping=PredictionMapping("y"))
    for version in made.versions:
        del version.backends[:]
    shown = {"backend_id": "a", "server_model_name": "m", "credentials": "vision/server"}
    made.versions[0].backends.add(protocol="oip-rest", http_address=f"https://127.0.0.1:{rest.port}", **shown)
    made.versions[1].backends.add(protocol="oip-grpc", grpc_address=f"grpcs://127.0.0.1:{over_grpc.port}", **shown)
    return made


async def test_it_is_believed_by_its_authority_and_shown_the_teams_token(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    server = mlserver(tmp_path / "server")
    server.start()
    tokens = tmp_path / "tokens"
    (tokens / "vision").mkdir(parents=True)
    (tokens / "vision" / "server").write_text("t0ken")
    try:
        with (
            tls_relay(tmp_path / "authority", server.rest_port) as rest,
            tls_relay(tmp_path / "authority", server.grpc_port) as over_grpc,
        ):
            router = FakeRouter(full_table(table(rest, over_grpc)))
            async with serving(router=router, monitor=FakeMonitor()) as neighbours:
                told = {"external_ca": rest.authority, "external_credentials": tokens}
                part = batcher_part(
                    tmp_path / "batcher",
                    router=neighbours,
                    monitor=neighbours,
                    application="services.batcher.app:app",
                    settings=told,
                )
                async with running(part), httpx.AsyncClient(trust_env=False, timeout=20) as client:
                    for version in (REST, OVER_GRPC):
                        for number in range(3):
                            tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [number]}
                            path = f"/v2/models/m/versions/{version}/infer"
                            answer = await client.post(f"http://{address_of(part)}{path}", json={"inputs": [tensor]})
                            assert answer.status_code == 200, answer.text
                            (output,) = answer.json()["outputs"]
                            assert (output["name"], output["data"]) == ("y", [number])
            assert rest.heads
            assert all(re.search(rb"\r\nAuthorization: Bearer t0ken\r\n", head) for head in rest.heads)
            assert over_grpc.heads
            assert all(head.startswith(b"PRI * HTTP/2.0") for head in over_grpc.heads)
            assert "t0ken" not in (tmp_path / "batcher" / "batcher.log").read_text()
    finally:
        server.kill()
