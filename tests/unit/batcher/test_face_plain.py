"""The operators' page names models and requests: only callers on the same machine get it."""

from collections.abc import Mapping

import orjson
import pytest
from prometheus_client import CollectorRegistry

from services.batcher.bridge.messages import SOURCE_ADDRESS, Request
from services.batcher.faces.plain import PlainFace


async def asked(
    source: str | None, *, path: str = "/debug/batcher", headers: Mapping[bytes, bytes] | None = None
) -> tuple[int, bytes]:
    """Status and body of the answer to a caller at that address."""
    face = PlainFace(unready=list, registry=CollectorRegistry(), page=lambda: {"lanes": []})
    named = {} if source is None else {SOURCE_ADDRESS: source.encode()}
    answer = await face.handlers()[path](Request("GET", path, {**named, **(headers or {})}, b"", True))
    return int(answer.headers[0][1]), answer.body


@pytest.mark.parametrize("source", ["127.0.0.1:5", "127.9.9.9:5", "[::1]:5", "[::ffff:127.0.0.1]:5"])
async def test_this_machine_gets_the_page(source: str) -> None:
    status, body = await asked(source)
    assert (status, orjson.loads(body)) == (200, {"lanes": []})


@pytest.mark.parametrize("source", ["10.0.0.7:5", "[::ffff:10.0.0.7]:5", "[2001:db8::1]:5", "/run/a.sock", "", None])
async def test_others_do_not(source: str | None) -> None:
    status, body = await asked(source)
    assert status == 403
    assert b"lanes" not in body
    assert (await asked(source, path="/metrics"))[0] == 200


async def test_nor_do_others_behind_a_proxy_on_this_machine() -> None:
    status, _ = await asked("127.0.0.1:5", headers={b"x-forwarded-for": b"10.0.0.7"})
    assert status == 403
