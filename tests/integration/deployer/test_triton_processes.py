"""The processes of a real Triton: found by its address and by the model that each runs."""

import asyncio
import socket
from pathlib import Path

from services.deployer.adapters.triton_processes import TritonProcesses
from tests.integration.deployer.driving import Triton
from tests.integration.deployer.loaded import NAME, address, loading
from tests.support.parts import free_port
from tests.support.waiting import eventually


async def test_copies_are_found_by_the_model_that_they_run_and_are_gone_with_it(triton: Triton, tmp_path: Path) -> None:
    processes = TritonProcesses(address(triton))
    assert await asyncio.to_thread(processes.copies) == {}
    async with loading(triton, tmp_path) as server:
        copies = processes.copies() or {}
        assert {name: len(found) for name, found in copies.items()} == {NAME: 2}
        assert all(one.memory_info().rss > 0 for one in copies[NAME])
        await server.unload(NAME)
        await eventually(lambda: processes.copies() == {}, what="the copies are gone")


async def test_a_server_that_was_started_anew_is_found_again(triton: Triton, tmp_path: Path) -> None:
    processes = TritonProcesses(address(triton))
    first = processes.server()
    assert first is not None
    assert first.pid == triton.process.pid
    await triton.kill()
    assert processes.server() is None
    assert processes.copies() is None
    await triton.start()
    assert (found := processes.server()) is not None
    assert found.pid == triton.process.pid
    async with loading(triton, tmp_path):
        assert len((processes.copies() or {})[NAME]) == 2


async def test_it_is_found_by_any_name_of_this_machine_and_by_no_other(triton: Triton) -> None:
    port = triton.part.ports["triton_http"]
    for host in ("localhost", "127.0.0.1"):
        found = TritonProcesses(f"{host}:{port}").server()
        assert found is not None
        assert found.pid == triton.process.pid
    assert TritonProcesses(f"127.0.0.1:{free_port()}").server() is None
    # Of TEST-NET-1, which no machine has.
    assert TritonProcesses(f"192.0.2.1:{port}").copies() is None
    # What listens there is no Triton.
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert TritonProcesses(f"127.0.0.1:{other.getsockname()[1]}").server() is None
