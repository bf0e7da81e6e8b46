"""What a real Triton and its models take of the memory."""

from pathlib import Path

from services.deployer.adapters.triton_memory import TritonMemory
from services.deployer.adapters.triton_processes import TritonProcesses
from services.deployer.domain.memory import taken
from tests.integration.deployer.driving import Triton
from tests.integration.deployer.loaded import NAME, address, loading
from tests.support.waiting import eventually

MB = 1e6


async def test_a_version_takes_what_its_copies_take_and_nothing_once_it_is_gone(triton: Triton, tmp_path: Path) -> None:
    meter = TritonMemory(TritonProcesses(address(triton)))
    before = await meter.read()
    assert before is not None
    assert before.models == {}
    assert 10 * MB < before.own_bytes < 2000 * MB
    async with loading(triton, tmp_path) as server:
        after = await meter.read([NAME])
        measured = taken(NAME, before, after)
        assert measured is not None
        print(f"the server {before.own_bytes / MB:.0f} MB, two copies of digits {measured / MB:.0f} MB")
        # Each is a Python with numpy and onnxruntime; what both map is counted once.
        assert 20 * MB < measured < 400 * MB
        assert after is not None
        assert set(after.models) == {NAME}
        assert after.total_bytes > before.total_bytes + 15 * MB
        other = await meter.read(["another--v1.0.0"])
        assert other is not None
        assert other.models == {}
        await server.unload(NAME)

        async def gone() -> bool:
            found = await meter.read()
            return found is not None and found.models == {}

        await eventually(gone, what="the copies are gone")


async def test_a_server_that_is_down_is_not_measured(triton: Triton) -> None:
    meter = TritonMemory(TritonProcesses(address(triton)))
    await triton.kill()
    assert await meter.read() is None
