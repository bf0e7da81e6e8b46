"""Asks a listener of this container how it is, as a cluster's probe that has no certificate of the mesh cannot.

    probe.py 8110 /ready           exits with 0 where GET /ready answers 200; over TLS where TLS_DIR names certificates
    probe.py 8141                  exits with 0 where somebody listens

Of the standard library alone: it runs every few seconds.
"""

import http.client
import os
import socket
import ssl
import sys

_TIMEOUT_S = 2.0


def main(port: int, path: str | None) -> int:
    """The exit code; what was answered goes to the probe's event."""
    try:
        if path is None:
            socket.create_connection(("127.0.0.1", port), _TIMEOUT_S).close()
            return 0
        connection = _connection(port, os.environ.get("TLS_DIR", ""))
        connection.request("GET", path)
        answer = connection.getresponse()
        sys.stdout.write(f"{answer.status} {answer.read(500).decode(errors='replace')}\n")
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"port {port}: {error}\n")
        return 1
    return 0 if answer.status == http.client.OK else 1


def _connection(port: int, folder: str) -> http.client.HTTPConnection:
    if not folder:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
    context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    # The mesh's authority is proof enough of who is asked: it is this very container.
    context.check_hostname = False
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_S, context=context)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
