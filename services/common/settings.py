"""Settings: frozen, typed, from environment variables `INFERMESH_<SERVICE>_<FIELD>`; read once, at start."""

import sys
from typing import TypeVar

from pydantic import AliasChoices, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


def settings_config(service: str) -> SettingsConfigDict:
    """The `model_config` of a service's settings: its environment prefix, frozen, unknown fields refused."""
    return SettingsConfigDict(env_prefix=f"INFERMESH_{service.upper()}_", frozen=True, extra="forbid")


def shared_by_services(service: str, field: str) -> AliasChoices:
    """The `validation_alias` of a field that several services have: INFERMESH_<SERVICE>_<FIELD>, else
    INFERMESH_<FIELD>, which tells them all the same."""
    return AliasChoices(field, f"INFERMESH_{service}_{field}".upper(), f"INFERMESH_{field}".upper())


class ServiceSettings(BaseSettings):
    """What every service can be told. Each subclass adds its own fields and its default ports."""

    host: str = "127.0.0.1"
    """Address to listen on. Loopback by default: whoever exposes a service says so."""
    port: int
    """Port of the gRPC server; 0 picks a free one."""
    metrics_port: int
    """Port, without TLS, of the Prometheus endpoint `/metrics` and of `/health` and `/ready` for probes; 0 picks a free
    one."""
    instance: str = ""
    """Stable name of this process, for instance "router-0"; tells processes apart in logs and streams."""
    log_level: str = "info"
    """debug, info, warning or error."""
    shutdown_grace_s: float = 8.0
    """The longest that a stop may take, in seconds: work in flight is finished within it, the rest is cut off."""
    tls_dir: str = ""
    """Folder with ca.crt, tls.crt and tls.key: mutual TLS with every other service. Empty: none, which is refused where
    `host` is not this machine's alone."""
    insecure: bool = False
    """True: listen beyond this machine without TLS all the same. Whoever reaches the port may do everything."""
    otlp_endpoint: str = ""
    """host:port of an OTLP gRPC receiver for traces. Empty: traces are not exported."""


S = TypeVar("S", bound=BaseSettings)


def load(settings_class: type[S]) -> S:
    """Reads the settings from the environment. Exits with one sentence per wrong variable, naming it."""
    try:
        return settings_class()
    except ValidationError as error:
        prefix = str(settings_class.model_config.get("env_prefix", ""))
        for problem in error.errors():
            variable = prefix + "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"{variable} is {problem['input']!r}: {problem['msg']}; set it and start again\n")
        raise SystemExit(2) from None
