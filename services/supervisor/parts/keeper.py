"""The gateway's keeper: between the Envoy beside it and the router, with what Envoy was told last on disk."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from services.supervisor.parts.part import Part
from services.supervisor.parts.service import service_part

_STOP_TIMEOUT_S = 2.0


def keeper_part(
    *,
    port: int,
    router_address: str,
    data_dir: Path,
    layout: str,
    work_dir: Path,
    log_path: Path,
    more: Mapping[str, object] | None = None,
) -> Part:
    """A keeper on loopback for the router at `router_address` (host:port), over the folder `data_dir`.

    `layout` says in any words what the kept configuration is good for; `more` are further settings of
    services.gateway. Ready means that it answers, whether or not the router does.
    """
    part = service_part(
        "gateway",
        ports={"keeper": port},
        settings={
            "port": port,
            "router_address": router_address,
            "data_dir": data_dir,
            "layout": layout,
            "shutdown_grace_s": _STOP_TIMEOUT_S - 0.5,
            **(more or {}),
        },
        work_dir=work_dir,
        log_path=log_path,
    )
    return replace(part, name="keeper", stop_timeout_s=_STOP_TIMEOUT_S)
