"""The ports of a local mesh: fixed defaults that people can learn, or free ones for tests."""

import contextlib
import random
import socket
from collections.abc import Iterator, Sequence

from pydantic_settings import BaseSettings, SettingsConfigDict

CANDIDATES = range(10_000, 32_768)
"""What `free_ports` chooses from."""

BATCHERS_MAX = 8
"""The most batchers that a local mesh has beside its gateway."""
TRITONS_MAX = 8
"""The most model servers that it has."""


class MeshPorts(BaseSettings):
    """One loopback TCP port for each purpose. The variable INFERMESH_PORT_<NAME> changes one."""

    model_config = SettingsConfigDict(env_prefix="INFERMESH_PORT_", frozen=True)

    gateway: int = 8080
    """REST, gRPC and the Open Inference Protocol, for clients. The only port that they need."""
    registry: int = 8101
    router: int = 8102
    deployer: int = 8103
    batch: int = 8104
    monitor: int = 8105
    limiter: int = 8106
    batcher: int = 8110
    """Of the first batcher, or of the one that the gateway carries; the others follow."""
    batcher_1: int = 8111
    batcher_2: int = 8112
    batcher_3: int = 8113
    batcher_4: int = 8114
    batcher_5: int = 8115
    batcher_6: int = 8116
    batcher_7: int = 8117
    triton_http: int = 8120
    triton_grpc: int = 8121
    triton_metrics: int = 8122
    """The first Triton's; those of the others are at the end."""
    postgres: int = 8130
    redis: int = 8131
    """Of the Redis with features."""
    redis_cache: int = 8132
    """Of the Redis with kept predictions."""
    envoy_admin: int = 8140
    keeper: int = 8141
    """Where the gateway dials for its configuration."""
    registry_metrics: int = 8201
    router_metrics: int = 8202
    deployer_metrics: int = 8203
    batch_metrics: int = 8204
    monitor_metrics: int = 8205
    limiter_metrics: int = 8206
    triton_http_1: int = 8150
    triton_grpc_1: int = 8151
    triton_metrics_1: int = 8152
    triton_http_2: int = 8153
    triton_grpc_2: int = 8154
    triton_metrics_2: int = 8155
    triton_http_3: int = 8156
    triton_grpc_3: int = 8157
    triton_metrics_3: int = 8158
    triton_http_4: int = 8159
    triton_grpc_4: int = 8160
    triton_metrics_4: int = 8161
    triton_http_5: int = 8162
    triton_grpc_5: int = 8163
    triton_metrics_5: int = 8164
    triton_http_6: int = 8165
    triton_grpc_6: int = 8166
    triton_metrics_6: int = 8167
    triton_http_7: int = 8168
    triton_grpc_7: int = 8169
    triton_metrics_7: int = 8170

    def of_batcher(self, place: int) -> int:
        """The port of a batcher, counted from 0."""
        return int(getattr(self, batcher_purpose(place)))

    def of_triton(self, place: int, kind: str) -> int:
        """The port of a Triton, counted from 0, for "http", "grpc" or "metrics"."""
        return int(getattr(self, triton_purpose(place, kind)))

    @staticmethod
    def free() -> "MeshPorts":
        """Ports that are free now, all different, for a mesh beside others."""
        names = list(MeshPorts.model_fields)
        return MeshPorts(**dict(zip(names, free_ports(len(names)), strict=True)))


def batcher_purpose(place: int) -> str:
    """What the port of a batcher is called, counted from 0."""
    return f"batcher_{place}" if place else "batcher"


def triton_purpose(place: int, kind: str) -> str:
    """What the port of a Triton is called, counted from 0, by what it is for."""
    return f"triton_{kind}_{place}" if place else f"triton_{kind}"


def variable_of(purpose: str) -> str | None:
    """The variable that moves a port, by its purpose; None where the port is not one of the mesh's."""
    return f"INFERMESH_PORT_{purpose.upper()}" if purpose in MeshPorts.model_fields else None


def free_ports(count: int) -> list[int]:
    """`count` different ports that nothing listens on.

    They are below those that the kernel gives to outgoing connections (`ip_local_port_range`, from 32768 on): such a
    port may be anybody's again by the time its part starts, or starts anew.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        for port in _in_any_order(CANDIDATES):
            if len(found) == count:
                break
            one = held.enter_context(socket.socket())
            try:
                one.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    if len(found) < count:
        raise OSError(f"{count} ports are wanted and {len(found)} of {min(CANDIDATES)} to {max(CANDIDATES)} are free")
    return found


def _in_any_order(ports: Sequence[int]) -> Iterator[int]:
    """Each once. Shuffled as far as it is read (Fisher and Yates), for few are wanted of many."""
    rng = random.SystemRandom()
    moved: dict[int, int] = {}
    for last in range(len(ports) - 1, -1, -1):
        at = rng.randrange(last + 1)
        yield ports[moved.get(at, at)]
        moved[at] = moved.get(last, last)
