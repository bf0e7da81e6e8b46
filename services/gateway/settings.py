"""What the keeper can be told, by variables INFERMESH_GATEWAY_<FIELD>.

Read without pydantic, which other services have: it would be a quarter of this process's memory.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

_PREFIX = "INFERMESH_GATEWAY_"
_READERS: Mapping[type, Callable[[str], object]] = {str: str, int: int, float: float, Path: Path}


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewaySettings:
    """Not those of every service: the keeper has no metrics and no traces of its own."""

    host: str = "127.0.0.1"
    """Address to listen on. Loopback: the gateway is on the same machine, so that they live and die together."""
    port: int = 8141
    """Where the gateway dials; 0 picks a free one."""
    instance: str = "gateway-0"
    """Name of this process in logs; give it the gateway's."""
    log_level: str = "info"
    """debug, info, warning or error."""
    shutdown_grace_s: float = 2.0
    """The longest that a stop may take, in seconds."""
    router_address: str
    """host:port of the router."""
    tls_dir: str = ""
    """Folder with ca.crt, tls.crt and tls.key: mutual TLS with the router. Empty: none, which fits one machine."""
    data_dir: Path
    """Where configurations are kept."""
    layout: str = ""
    """What kept configurations are good for, in any words. Those that were kept under others are left aside: change it
    with the gateway's address or with where its batcher is."""
    connect_timeout_s: float = 0.5
    """How long a gateway that dials waits for the router, in seconds, before it gets what is kept."""
    patience_s: float = 5.0
    """How long a router that can be reached may leave a gateway without an answer, in seconds, before it gets what is
    kept. More than a router takes that restores its rules and waits for batchers: then its word comes first."""
    save_period_s: float = 0.1
    """The least time between two writes, in seconds; more where much changes for long. What changed since is lost with
    a keeper that is killed, and asked for again when the gateway dials next."""


def load(environment: Mapping[str, str]) -> GatewaySettings:
    """Reads the settings. Exits with one sentence per wrong variable, naming it."""
    told: dict[str, object] = {}
    wrong = []
    for field in fields(GatewaySettings):
        variable = _PREFIX + field.name.upper()
        text = environment.get(variable)
        if text is None:
            if field.default is MISSING:
                wrong.append(f"{variable} is missing")
            continue
        try:
            told[field.name] = _read(field.type, text)
        except ValueError as error:
            wrong.append(f"{variable} is {text!r}: {error}")
    if wrong:
        sys.stderr.write("".join(f"{problem}; set it and start again\n" for problem in wrong))
        raise SystemExit(2)
    return GatewaySettings(**told)  # type: ignore[arg-type]


def _read(kind: object, text: str) -> object:
    """Raises ValueError with what is wrong."""
    assert isinstance(kind, type)
    value = _READERS[kind](text)
    if isinstance(value, int | float) and not 0 <= value < float("inf"):
        raise ValueError("it must not be below 0 or without end")
    return value
