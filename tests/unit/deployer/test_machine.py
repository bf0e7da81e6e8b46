"""What model servers may take of a machine's memory."""

from pathlib import Path

import psutil

from services.deployer.adapters.machine import SHARE, memory_bytes, memory_limits
from services.deployer.domain.catalog import Place


def places(*addresses: str) -> list[Place]:
    return [Place(f"triton-{number}", address, "") for number, address in enumerate(addresses)]


def test_what_is_stated_is_each_servers() -> None:
    assert memory_limits(places("10.0.0.1:8000", "127.0.0.1:8000"), 7) == {"triton-0": 7, "triton-1": 7}


def test_servers_on_this_machine_share_it_and_others_have_no_limit() -> None:
    found = memory_limits(places("127.0.0.1:8000", "localhost:8003", "10.0.0.1:8000", "[::1]:8000", "host:1"), 0)
    assert set(found) == {"triton-0", "triton-1", "triton-3"}
    assert sum(found.values()) <= SHARE * psutil.virtual_memory().total * 1.001


def test_a_container_has_what_it_may_have(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    total = psutil.virtual_memory().total
    for text, expected in (("max\n", total), ("1000000\n", 1_000_000), (f"{2 * total}\n", total)):
        limit.write_text(text)
        assert memory_bytes(limit) == expected
    assert memory_bytes(tmp_path / "none") == total
