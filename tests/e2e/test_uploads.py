"""An artifact sent over REST in several goes, through the gateway."""

import hashlib
import random
from collections.abc import Iterator

import httpx
import pytest

from tests.support.mesh import Mesh

CONTENT = random.Random(3).randbytes(12_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HALF = 5_000_001


@pytest.fixture
def http(mesh: Mesh) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {mesh.key}"} if mesh.key else {}
    with httpx.Client(base_url=f"http://{mesh.gateway}", headers=headers, timeout=60, trust_env=False) as client:
        yield client


def test_it_goes_on_where_it_broke_off_and_comes_back_from_any_place(http: httpx.Client) -> None:
    begun = http.post("/v1/artifacts/uploads", json={"filename": "weights.bin", "digest": DIGEST})
    assert begun.status_code == 200, begun.text
    path = f"/v1/artifacts/uploads/{begun.json()['upload_id']}"
    octets = {"content-type": "application/octet-stream"}
    first = http.patch(path, params={"offset_bytes": 0}, content=CONTENT[:HALF], headers=octets)
    assert first.status_code == 200, first.text
    assert first.json()["offset_bytes"] == HALF
    wrong = http.patch(path, params={"offset_bytes": 7}, content=b"x", headers=octets)
    assert wrong.status_code == 400
    assert str(HALF) in wrong.text
    assert http.get(path).json()["offset_bytes"] == HALF
    http.patch(path, params={"offset_bytes": HALF}, content=CONTENT[HALF:], headers=octets)
    made = http.post(f"{path}:complete", json={})
    assert made.status_code == 200, made.text
    assert (made.json()["digest"], made.json()["size_bytes"]) == (DIGEST, len(CONTENT))
    fetched = http.get(f"/v1/artifacts/{DIGEST}/content", params={"offset_bytes": HALF})
    assert fetched.content == CONTENT[HALF:]
    assert http.delete("/v1/artifacts/uploads/nothing").status_code == 404
