"""Free ports are free, and stay so."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from services.supervisor import ports as ports_of_meshes
from services.supervisor.ports import MeshPorts, free_ports


def test_free_ports_differ_can_be_bound_and_are_never_given_to_outgoing_connections() -> None:
    outgoing_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    with ExitStack() as taken:
        for _ in range(5):
            ports = free_ports(20)
            assert len(set(ports)) == 20
            assert max(ports) < outgoing_from
            for port in ports:
                one = taken.enter_context(socket.socket())
                one.bind(("127.0.0.1", port))
                one.listen()


def test_a_mesh_beside_another_has_a_port_for_each_purpose() -> None:
    ports = MeshPorts.free().model_dump()
    assert len(set(ports.values())) == len(MeshPorts.model_fields)


def test_every_port_that_there_is_may_be_had_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    few = free_ports(6)
    monkeypatch.setattr(ports_of_meshes, "CANDIDATES", few)
    assert sorted(free_ports(6)) == sorted(few)
    with pytest.raises(OSError, match="7 ports are wanted and 6 of"):
        free_ports(7)
