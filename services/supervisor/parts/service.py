"""A service of ours: `python -m services.<name>`, told everything by variables INFERMESH_<NAME>_<FIELD>."""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from services.common import outside_credentials, outside_tls
from services.common.grpc.tls import PeerTls
from services.supervisor.parts.part import Part
from services.supervisor.parts.probes import grpc_ready

_STOP_TIMEOUT_S = 5.0
_GRACE_S = 4.0
_READY_TIMEOUT_S = 90.0
_BUCKET_USERS = ("registry", "batch")
_BUCKETS = ("AWS_", "GOOGLE_", "STORAGE_EMULATOR_HOST")
"""How the variables begin by which those that meet buckets find them, and are let in."""
_SHARED = (outside_tls.VARIABLE, outside_credentials.VARIABLE)
"""Paths that several services are told by one variable."""


def service_part(
    name: str,
    *,
    ports: Mapping[str, int],
    settings: Mapping[str, object],
    work_dir: Path,
    log_path: Path,
    ready: Callable[[], Awaitable[bool]] | None = None,
    tls: PeerTls | None = None,
) -> Part:
    """Service `name`. The first of `ports` is where it answers gRPC health, over TLS with `tls`, which tells that it is
    ready.

    Its own settings (INFERMESH_<NAME>_…) and those of several services may be in this process's environment; what the
    mesh settles itself, such as ports and addresses, holds all the same.
    """
    first = next(iter(ports.values()))
    prefix = f"INFERMESH_{name}_".upper()
    told = {"shutdown_grace_s": _GRACE_S, "instance": f"{name}-0", **settings}
    settled = {f"{prefix}{field.upper()}": str(value) for field, value in told.items()}
    trusted = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
    shared = {name: str(Path(os.environ[name]).absolute()) for name in _SHARED if os.environ.get(name)}
    met = _BUCKETS if name in _BUCKET_USERS else ()
    buckets = {variable: value for variable, value in os.environ.items() if variable.startswith(met)}
    wished = {variable: value for variable, value in os.environ.items() if variable.startswith(prefix)}
    return Part(
        name=name,
        argv=(sys.executable, "-m", f"services.{name}"),
        env={
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "TMPDIR": str(work_dir),
            **trusted,
            **shared,
            **buckets,
            **wished,
            **settled,
        },
        cwd=work_dir,
        ports=ports,
        ready=ready or grpc_ready("127.0.0.1", first, tls=tls),
        ready_timeout_s=_READY_TIMEOUT_S,
        stop_timeout_s=_STOP_TIMEOUT_S,
        log_path=log_path,
    )
