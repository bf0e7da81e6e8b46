"""The local mesh as stages of parts: servers that keep things, services that decide, the gateway in front."""

import hashlib
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from services.common.clock import Clock
from services.common.grpc.tls import PeerTls
from services.supervisor.certificates import LocalAuthority
from services.supervisor.parts.envoy import carrying_gateway, envoy_part
from services.supervisor.parts.keeper import keeper_part
from services.supervisor.parts.part import Part
from services.supervisor.parts.postgres import database_url, postgres_part, read_password
from services.supervisor.parts.probes import http_ready
from services.supervisor.parts.service import service_part
from services.supervisor.parts.triton import tracing_options, triton_part
from services.supervisor.parts.valkey import prediction_cache_part, valkey_part
from services.supervisor.ports import MeshPorts, batcher_purpose, triton_purpose
from services.supervisor.settings import ROOT, SupervisorSettings

_SERVER_STOP_TIMEOUT_S = 3.0
_GATEWAY_STOP_TIMEOUT_S = 1.5


def build_stages(settings: SupervisorSettings, ports: MeshPorts, *, clock: Clock) -> Sequence[Sequence[Part]]:
    """What starts together, in order. A stop takes at most the sum of the stages' bounds: under 10 s.

    A gateway that carries a batcher starts with the services: what the router publishes first waits for batchers. Its
    keeper is there before it, and needs nobody.
    """
    # Made first: what asks the parts how they are shows it.
    _peer_dir(settings, clock, "supervisor")
    servers, gateway = _servers(settings, ports), _gateway(settings, ports, clock)
    services = _services(settings, ports, clock)
    servers.append(_keeper(settings, ports, clock))
    batchers = [_batcher(settings, ports, clock, place) for place in range(settings.batchers)]
    stages = [servers, [*services, *batchers], [gateway]] if batchers else [servers, [*services, gateway]]
    return tuple([replace(part, vital=_is_on_the_path(part)) for part in stage] for stage in stages)


def _is_on_the_path(part: Part) -> bool:
    """Whether predictions pass it. Without any of the others they go on."""
    return part.name.partition("-")[0] in {"gateway", "batcher", "triton"}


def model_repository(settings: SupervisorSettings) -> Path:
    """Where the deployer puts what Triton loads."""
    return settings.data_dir / "triton" / "repository"


def _servers(settings: SupervisorSettings, ports: MeshPorts) -> list[Part]:
    data, logs = settings.data_dir, settings.data_dir / "logs"
    servers = [
        postgres_part(port=ports.postgres, data_dir=data / "postgres", log_path=logs / "postgres.log"),
        valkey_part(
            port=ports.redis,
            data_dir=data / "redis",
            log_path=logs / "redis.log",
            memory_mb=settings.feature_memory_mb,
        ),
        prediction_cache_part(
            port=ports.redis_cache,
            data_dir=data / "redis-cache",
            log_path=logs / "redis-cache.log",
            memory_mb=settings.cache_memory_mb,
        ),
        *(_triton(settings, ports, place) for place in range(settings.tritons)),
    ]
    return [replace(server, stop_timeout_s=_SERVER_STOP_TIMEOUT_S) for server in servers]


def _triton(settings: SupervisorSettings, ports: MeshPorts, place: int) -> Part:
    """A model server, counted from 0: "triton", "triton-1" and so on. All load from one repository."""
    name = f"triton-{place}" if place else "triton"
    own = {kind: ports.of_triton(place, kind) for kind in ("http", "grpc", "metrics")}
    part = triton_part(
        http_port=own["http"],
        grpc_port=own["grpc"],
        metrics_port=own["metrics"],
        repository=model_repository(settings),
        serving_python=settings.serving_env / "bin" / "python",
        work_dir=settings.data_dir / name,
        log_path=settings.data_dir / "logs" / f"{name}.log",
        options=tracing_options(settings.triton_otlp_url) if settings.triton_otlp_url else (),
    )
    return replace(part, name=name, ports={triton_purpose(place, kind): port for kind, port in own.items()})


def _triton_addresses(settings: SupervisorSettings, ports: MeshPorts, kind: str) -> str:
    return ",".join(f"127.0.0.1:{ports.of_triton(place, kind)}" for place in range(settings.tritons))


def _services(settings: SupervisorSettings, ports: MeshPorts, clock: Clock) -> list[Part]:
    logs, work_dir = settings.data_dir / "logs", settings.data_dir / "tmp"
    work_dir.mkdir(parents=True, exist_ok=True)
    database = database_url(port=ports.postgres, password=read_password(settings.data_dir / "postgres"))
    both = _said_to_all(settings)
    registry, router, monitor = (f"127.0.0.1:{port}" for port in (ports.registry, ports.router, ports.monitor))
    batchers = [f"127.0.0.1:{ports.of_batcher(place)}" for place in range(settings.batchers)]
    own: dict[str, dict[str, object]] = {
        "registry": {
            "data_dir": settings.data_dir / "registry",
            "deployer_address": f"127.0.0.1:{ports.deployer}",
        },
        "router": {
            "data_dir": settings.data_dir / "router",
            "deployer_address": f"127.0.0.1:{ports.deployer}",
            "registry_address": registry,
            "batch_address": f"127.0.0.1:{ports.batch}",
            "monitor_address": monitor,
            "batcher_address": ",".join(batchers),
            "gateway_port": ports.gateway,
            "authentication": settings.auth == "on",
            "limiter_address": f"127.0.0.1:{ports.limiter}" if settings.limiter == "on" else "",
            **_tls(settings, clock),
            "gateway_tls_dir": _peer_dir(settings, clock, "gateway") or "",
        },
        "deployer": {
            "data_dir": settings.data_dir / "deployer",
            "model_repository": model_repository(settings),
            "serving_python": (settings.serving_env / "bin" / "python").absolute(),
            "environments": ROOT / ".build" / "environments",
            "triton_http_address": _triton_addresses(settings, ports, "http"),
            "triton_grpc_address": _triton_addresses(settings, ports, "grpc"),
            "triton_metrics_address": _triton_addresses(settings, ports, "metrics"),
            "registry_address": registry,
            "router_address": router,
        },
        "batch": {
            "data_dir": settings.data_dir / "batch",
            "registry_address": registry,
            "batcher_address": f"127.0.0.1:{ports.gateway}",
            "authentication": settings.auth == "on",
            "batcher_tls": {"off": "", "local": authority_file(settings)}.get(settings.tls, "system"),
        },
        "monitor": {
            "data_dir": settings.data_dir / "monitor",
            "registry_address": registry,
            "router_address": router,
            "deployer_address": f"127.0.0.1:{ports.deployer}",
        },
    }
    if settings.limiter == "on":
        own["limiter"] = {"registry_address": registry, "redis_url": f"redis://127.0.0.1:{ports.redis_cache}/0"}
    return [
        service_part(
            name,
            ports={name: getattr(ports, name), f"{name}_metrics": getattr(ports, f"{name}_metrics")},
            settings={
                "port": getattr(ports, name),
                "metrics_port": getattr(ports, f"{name}_metrics"),
                **({"database_url": database} if name != "limiter" else {}),
                **both,
                **_peer_setting(settings, clock, name),
                **told,
            },
            work_dir=work_dir,
            log_path=logs / f"{name}.log",
            tls=own_certificate(settings),
        )
        for name, told in own.items()
    ]


def authority_file(settings: SupervisorSettings) -> Path | None:
    """The certificate by which clients know the gateway; None where they have it from elsewhere, or need none."""
    return settings.data_dir / "tls" / "ca.crt" if settings.tls == "local" else None


def own_certificate(settings: SupervisorSettings) -> PeerTls | None:
    """What the supervisor shows to services, made by `build_stages`; None where nobody shows anything."""
    return PeerTls(_peers(settings) / "supervisor") if settings.peer_tls == "on" else None


def _peers(settings: SupervisorSettings) -> Path:
    return settings.data_dir / "peers"


def _peer_dir(settings: SupervisorSettings, clock: Clock, name: str) -> Path | None:
    """Where `name` has its certificate among services; None where there are none."""
    if settings.peer_tls == "off":
        return None
    authority = LocalAuthority(_peers(settings), now=clock.now())
    return authority.folder_for(name, hosts=("localhost", "127.0.0.1"))


def _peer_setting(settings: SupervisorSettings, clock: Clock, name: str) -> Mapping[str, object]:
    folder = _peer_dir(settings, clock, name)
    return {"tls_dir": folder} if folder is not None else {}


def _tls(settings: SupervisorSettings, clock: Clock) -> Mapping[str, object]:
    """What the router is told of the gateway's certificate; nothing where the gateway speaks no TLS."""
    if settings.tls == "off":
        return {}
    if settings.tls == "local":
        authority = LocalAuthority(settings.data_dir / "tls", now=clock.now())
        issued = authority.issue("gateway", hosts=("localhost", "127.0.0.1", "::1", socket.gethostname()))
        certificate, key = issued.certificate, issued.private_key
    else:
        certificate, key = Path(settings.tls) / "tls.crt", Path(settings.tls) / "tls.key"
    return {"tls_certificate": certificate, "tls_private_key": key}


def _said_to_all(settings: SupervisorSettings) -> Mapping[str, object]:
    return {"log_level": settings.log_level, "otlp_endpoint": settings.otlp_endpoint}


def _batcher(settings: SupervisorSettings, ports: MeshPorts, clock: Clock, place: int = 0) -> Part:
    """A batcher, counted from 0: "batcher", "batcher-1" and so on."""
    name, port = f"batcher-{place}" if place else "batcher", ports.of_batcher(place)
    part = service_part(
        "batcher",
        ports={batcher_purpose(place): port},
        settings={
            "port": port,
            "instance": f"batcher-{place}",
            "data_dir": settings.data_dir / name,
            "router_address": f"127.0.0.1:{ports.router}",
            "registry_address": f"127.0.0.1:{ports.registry}",
            "monitor_address": f"127.0.0.1:{ports.monitor}",
            "deployer_address": f"127.0.0.1:{ports.deployer}",
            "redis_url": f"redis://127.0.0.1:{ports.redis_cache}/0",
            "feature_redis_url": f"redis://127.0.0.1:{ports.redis}/0",
            **_peer_setting(settings, clock, "batcher"),
            **_said_to_all(settings),
        },
        work_dir=settings.data_dir / "tmp",
        log_path=settings.data_dir / "logs" / f"{name}.log",
        ready=http_ready("127.0.0.1", port, "/ready", tls=own_certificate(settings)),
    )
    return replace(part, name=name)


def _keeper(settings: SupervisorSettings, ports: MeshPorts, clock: Clock) -> Part:
    digest = hashlib.sha256(ports.model_dump_json().encode()).hexdigest()[:12]
    return keeper_part(
        port=ports.keeper,
        router_address=f"127.0.0.1:{ports.router}",
        data_dir=settings.data_dir / "gateway",
        # A listener for another port, or with a batcher in it where there is none, would be of no use; one that asks
        # nobody for a key would be open.
        layout=f"batchers {settings.batchers}, ports {digest}, auth {settings.auth}, tls {settings.tls}, "
        f"peers {settings.peer_tls}",
        work_dir=settings.data_dir / "tmp",
        log_path=settings.data_dir / "logs" / "keeper.log",
        more={"log_level": settings.log_level, **_peer_setting(settings, clock, "keeper")},
    )


def _gateway(settings: SupervisorSettings, ports: MeshPorts, clock: Clock) -> Part:
    keeper, work_dir = f"127.0.0.1:{ports.keeper}", settings.data_dir / "gateway"
    if not settings.batchers:
        gateway = carrying_gateway(
            _batcher(settings, ports, clock),
            gateway_port=ports.gateway,
            admin_port=ports.envoy_admin,
            ads_address=keeper,
            work_dir=work_dir,
            threads=settings.gateway_threads,
        )
        return replace(gateway, log_path=settings.data_dir / "logs" / "gateway.log")
    gateway = envoy_part(
        gateway_port=ports.gateway,
        admin_port=ports.envoy_admin,
        ads_address=keeper,
        work_dir=work_dir,
        log_path=settings.data_dir / "logs" / "gateway.log",
        threads=settings.gateway_threads,
    )
    return replace(gateway, stop_timeout_s=_GATEWAY_STOP_TIMEOUT_S)
