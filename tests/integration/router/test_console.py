"""The console as the gateway serves it: every file as a browser wants it, to everybody, and nothing beside it."""

import gzip
import re
from collections.abc import Iterator

import httpx
import pytest

from services.router.adapters.envoy.console import BODY_MAX_BYTES
from tests.support.envoy_gateway import ROOT, Gateway, running_gateway, split

PAGE = ROOT / "services/router/adapters/envoy/console_page"
COMPRESSED_MAX_BYTES = 150_000
"""What a first visit may load, all files together."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=[split("digits", {"v1.0.0": 100})]) as running:
        yield running


def get(gateway: Gateway, path: str, *, method: str = "GET", encoding: str = "gzip, br") -> httpx.Response:
    with httpx.Client(base_url=f"http://{gateway.address}", trust_env=False) as http:
        return http.request(method, path, headers={"accept-encoding": encoding})


def assets(gateway: Gateway) -> list[str]:
    return re.findall(r'(?:src|href)="(/console/assets/[^"]+)"', get(gateway, "/console").text)


@pytest.mark.parametrize("path", ["/console", "/console/", "/console/models/digits/traffic", "/console/jobs?x=1"])
def test_every_address_of_the_console_is_the_page(gateway: Gateway, path: str) -> None:
    answer = get(gateway, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert '<div id="app">' in answer.text


def test_assets_are_kept_for_good_under_names_that_change_with_them(gateway: Gateway) -> None:
    named = assets(gateway)
    assert sorted(re.sub("-[0-9a-f]{12}", "", path) for path in named) == [
        "/console/assets/app.css",
        "/console/assets/app.js",
    ]
    assert all(re.search("-[0-9a-f]{12}", path) for path in named)
    for path in named:
        answer = get(gateway, path)
        assert answer.headers["content-type"].startswith("text/javascript" if path.endswith(".js") else "text/css")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.text == (PAGE / ("app.js" if path.endswith(".js") else "app.css")).read_text()


@pytest.mark.parametrize("path", ["/console", "asset"])
def test_files_are_compressed_for_those_who_read_that_and_plain_for_others(gateway: Gateway, path: str) -> None:
    path = assets(gateway)[0] if path == "asset" else path
    squeezed, plain = get(gateway, path), get(gateway, path, encoding="identity")
    assert squeezed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert squeezed.headers["vary"] == plain.headers["vary"] == "accept-encoding"
    assert squeezed.content == plain.content


def test_a_page_of_ours_runs_nothing_that_is_not_ours(gateway: Gateway) -> None:
    for path in ["/console", *assets(gateway)]:
        headers = get(gateway, path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    page = get(gateway, "/console").text
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|https?://(?!www\.w3\.org)", page)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/console/assets/app-000000000000.js"),
        ("GET", "/consoles"),
        ("POST", "/console"),
        ("DELETE", "/console/models/digits"),
    ],
)
def test_what_is_no_page_is_not_found(gateway: Gateway, method: str, path: str) -> None:
    answer = get(gateway, path, method=method)
    assert answer.status_code == 404
    assert answer.json()["code"] == 5


def test_a_head_tells_of_the_page_without_it(gateway: Gateway) -> None:
    answer = get(gateway, "/console", method="HEAD")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.content == b""


def test_the_files_are_small() -> None:
    files = [path.read_bytes() for path in PAGE.iterdir()]
    assert sum(len(gzip.compress(file)) for file in files) < COMPRESSED_MAX_BYTES
    assert max(map(len, files)) < BODY_MAX_BYTES
