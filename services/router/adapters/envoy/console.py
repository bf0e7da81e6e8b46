"""The console: a page, its script and its style sheet, which the gateway answers out of its own configuration.

So it is there with every service dead, and whoever runs the gateway installs no file for it. It knows nothing and may
do nothing: it asks the public REST API with the key that its reader types in. `console/` at the top has its
source, `console_page` beside this file what is built of it.

Script and style sheet have a digest in their names and are kept for good; the page names them and is asked for anew
each time. Answers of a gateway's own cannot be compressed on the way, so each is there twice.
"""

import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshxds.envoy.config.core.v3 import base_pb2
from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.type.matcher.v3 import string_pb2

from services.router.adapters.envoy.messages import overwritten

PREFIX = "/console"
BODY_MAX_BYTES = 512 * 1024
"""The largest of its files; a route configuration says how large what it answers by itself may be."""

_FILES = Path(__file__).parent / "console_page"
_ASSETS = f"{PREFIX}/assets/"
_DIGEST_LENGTH = 12
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css"}

# Nothing is loaded from elsewhere, nothing inline is run, nobody puts the page into a frame, and no form leaves it.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "vary": "accept-encoding",
}
_FOR_GOOD = "public, max-age=31536000, immutable"
_ANEW = "no-cache"
_ANOTHER_RELEASE = "no file of the console is called so; load the page anew"

_Match = route_components_pb2.RouteMatch
_Header = route_components_pb2.HeaderMatcher


@dataclass(frozen=True, slots=True)
class _File:
    """One of its files as it is served."""

    body: bytes
    media_type: str
    kept: str


def console_routes() -> Sequence[route_components_pb2.Route]:
    """The routes of the console. Every path under it that is no asset is the page, which finds out by itself what to
    show; an asset of another release is nobody's, rather than the page under a wrong name."""
    assets = {name: _named(name) for name in ("app.js", "app.css")}
    page = (_FILES / "index.html").read_text()
    for name, named in assets.items():
        page = page.replace(f"{_ASSETS}{name}", f"{_ASSETS}{named}")
    routes: list[route_components_pb2.Route] = []
    for name, named in assets.items():
        file = _File((_FILES / name).read_bytes(), _TYPES[Path(name).suffix], _FOR_GOOD)
        routes += _answers(_Match(path=f"{_ASSETS}{named}"), file)
    routes.append(
        route_components_pb2.Route(
            match=_Match(prefix=_ASSETS),
            direct_response=route_components_pb2.DirectResponseAction(
                status=404, body=base_pb2.DataSource(inline_string=_ANOTHER_RELEASE)
            ),
        )
    )
    shown = _File(page.encode(), _TYPES[".html"], _ANEW)
    return [*routes, *_answers(_Match(path=PREFIX), shown), *_answers(_Match(prefix=f"{PREFIX}/"), shown)]


def _named(name: str) -> str:
    """The name with the digest of what is in the file: app-<digest>.js."""
    path = _FILES / name
    return f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGEST_LENGTH]}{path.suffix}"


def _answers(match: route_components_pb2.RouteMatch, file: _File) -> Sequence[route_components_pb2.Route]:
    """The file for whoever asks for it: compressed for those who say that they read that, as every browser does."""
    reads = _Header(name=":method", string_match=string_pb2.StringMatcher(safe_regex={"regex": "GET|HEAD"}))
    squeezed = _Header(name="accept-encoding", string_match=string_pb2.StringMatcher(safe_regex={"regex": ".*gzip.*"}))
    routes = []
    encodings: Sequence[tuple[Sequence[route_components_pb2.HeaderMatcher], bytes, Mapping[str, str]]] = (
        ([reads, squeezed], gzip.compress(file.body, mtime=0), {"content-encoding": "gzip"}),
        ([reads], file.body, {}),
    )
    for headers, body, encoding in encodings:
        matched = _Match(headers=headers)
        matched.MergeFrom(match)
        said = {**_HEADERS, "content-type": file.media_type, "cache-control": file.kept, **encoding}
        routes.append(
            route_components_pb2.Route(
                match=matched,
                direct_response=route_components_pb2.DirectResponseAction(
                    status=200, body=base_pb2.DataSource(inline_bytes=body)
                ),
                response_headers_to_add=[overwritten(name, value) for name, value in said.items()],
            )
        )
    return routes
