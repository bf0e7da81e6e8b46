"""An OpenID Connect issuer as far as the gateway asks one: a small HTTP(S) server with its public keys."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.gateway_keys import Signer


class PlayedIssuer:
    """Serves `keys` at /keys, to whoever asks, and counts."""

    def __init__(self, signer: Signer, *, port: int = 0, certificate: tuple[Path, Path] | None = None) -> None:
        """`certificate`: its file and that of its key; it speaks HTTPS then."""
        self.keys = signer.key_set
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                issuer.asked += 1
                body = issuer.keys.encode()
                self.send_response(200 if self.path == "/keys" else 404)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Nothing: requests are counted."""

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "https" if certificate is not None else "http"
        self.port = self.server.server_address[1]
        self.uri = f"{scheme}://127.0.0.1:{self.port}/keys"


@contextmanager
def serving(issuer: PlayedIssuer) -> Iterator[PlayedIssuer]:
    """It answers while the context lasts."""
    thread = threading.Thread(target=issuer.server.serve_forever, name="issuer")
    thread.start()
    try:
        yield issuer
    finally:
        issuer.server.shutdown()
        issuer.server.server_close()
        thread.join(10.0)
