"""One mesh for all end-to-end tests, driven from outside."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.frameworks import use_wheels_of_pip
from tests.support.mesh import Mesh, start_mesh, stop_mesh


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """One mesh for all end-to-end tests: they share digits and add models of their own."""
    use_wheels_of_pip()
    running = start_mesh(tmp_path_factory.mktemp("mesh") / "data")
    yield running
    stop_mesh(running)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is marked `e2e`, with time for a mesh to start."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            # What a module asks for holds: a mark of the item itself would win over it.
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))
