"""The ports of a local mesh: fixed defaults that people can learn, or free ones for tests."""

import socket
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPorts:
    """One loopback TCP port for each purpose. The variable INFERMESH_PORT_<NAME> changes one."""

    gateway: int = 8080
    registry: int = 8101
    router: int = 8102
    deployer: int = 8103
    batch: int = 8104
    monitor: int = 8105
    batcher: int = 8110
    triton_http: int = 8120
    triton_grpc: int = 8121
    triton_metrics: int = 8122
    postgres: int = 8130
    redis: int = 8131
    envoy_admin: int = 8140
    registry_metrics: int = 8201
    router_metrics: int = 8202
    deployer_metrics: int = 8203
    batch_metrics: int = 8204
    monitor_metrics: int = 8205

    @staticmethod
    def free() -> "MeshPorts":
        """Ports that are free now, all different, for a mesh beside others."""
        names = [field.name for field in fields(MeshPorts)]
        return MeshPorts(**dict(zip(names, free_ports(len(names)), strict=True)))


def free_ports(count: int) -> list[int]:
    """`count` different ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
