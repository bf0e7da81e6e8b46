"""The operators' page names models and requests: only callers on the same machine get it."""

import orjson
import pytest
from prometheus_client import CollectorRegistry

from services.batcher.codec.frames import Headers
from services.batcher.faces.asgi import Received, Scope, Sent
from services.batcher.faces.plain import PlainFace


async def asked(
    client: tuple[str, int] | None, *, path: str = "/debug/batcher", headers: Headers | None = None
) -> tuple[int, bytes]:
    """Status and body of the answer to a caller at that address."""
    face = PlainFace(unready=list, registry=CollectorRegistry(), page=lambda: {"lanes": []})
    sent: list[Sent] = []

    async def receive() -> Received:
        return {"type": "http.request"}

    async def send(message: Sent) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "http_version": "1.1",
        "headers": headers or [],
        "client": client,
    }
    await face.handlers()[path](scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize("client", [("127.0.0.1", 5), ("127.9.9.9", 5), ("::1", 5), ("::ffff:127.0.0.1", 5)])
async def test_this_machine_gets_the_page(client: tuple[str, int]) -> None:
    status, body = await asked(client)
    assert (status, orjson.loads(body)) == (200, {"lanes": []})


@pytest.mark.parametrize("client", [("10.0.0.7", 5), ("::ffff:10.0.0.7", 5), ("2001:db8::1", 5), ("", 0), None])
async def test_others_do_not(client: tuple[str, int] | None) -> None:
    status, body = await asked(client)
    assert status == 403
    assert b"lanes" not in body
    assert (await asked(client, path="/metrics"))[0] == 200


async def test_nor_do_others_behind_a_proxy_on_this_machine() -> None:
    status, _ = await asked(("127.0.0.1", 5), headers=[(b"x-forwarded-for", b"10.0.0.7")])
    assert status == 403
