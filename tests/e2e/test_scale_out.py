"""A mesh with three batchers: a version's requests meet at one of them, and any of them may end under load."""

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.driving import MODEL, NEW, OLD, TIMEOUT_S, Rest
from tests.e2e.loading import Load
from tests.e2e.test_survival import BACK_WITHIN_S, wait_restarted
from tests.support.mesh import Mesh, start_mesh, stop_mesh
from tests.support.waiting import until

PARTS = ("batcher", "batcher-1", "batcher-2")
CALLERS = 8


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INFERMESH_BATCHERS", str(len(PARTS)))
        running = start_mesh(tmp_path_factory.mktemp("three") / "data")
    yield running
    stop_mesh(running)


@pytest.fixture
def callers(three: Mesh) -> Iterator[Sequence[Rest]]:
    found = [Rest(three.gateway, three.key) for _ in range(CALLERS)]
    yield found
    for caller in found:
        caller.close()


def answered(mesh: Mesh) -> dict[str, int]:
    """How many predictions each batcher says that it has answered, by its part's name."""
    found = {}
    for part in PARTS:
        port = mesh.port(part.replace("-", "_"))
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=TIMEOUT_S, trust_env=False).text
        pattern = rf'^model_requests_total{{[^}}]*model="{MODEL}"[^}}]*}} (\S+)$'
        found[part] = sum(int(float(number)) for number in re.findall(pattern, metrics, re.MULTILINE))
    return found


def asked(mesh: Mesh, work: Callable[[], object]) -> dict[str, int]:
    """Which batchers answered what `work` asks, and how often."""
    before = answered(mesh)
    work()
    return {part: number - before[part] for part, number in answered(mesh).items() if number != before[part]}


def test_the_parts_are_shown_and_all_batchers_are_sent_to(three: Mesh) -> None:
    assert set(PARTS) <= set(three.pids())
    said = three.output.read_text()
    for part in PARTS:
        assert f"127.0.0.1:{three.port(part.replace('-', '_'))}" in said
        assert (three.data_dir / "logs" / f"{part}.log").exists()


def test_a_version_is_at_one_batcher_while_its_requests_come_one_at_a_time(
    three: Mesh, callers: Sequence[Rest]
) -> None:
    body = {"instances": [three.samples[0]["instance"]]}
    for version in (OLD, NEW):

        def ten(version: str = version) -> None:
            for _ in range(10):
                callers[0].predict(body, headers={"x-model-version": version})

        found = asked(three, ten)
        assert list(found.values()) == [10], found
        assert asked(three, ten) == found


def test_a_hot_version_is_answered_by_several(three: Mesh, callers: Sequence[Rest]) -> None:
    body = {"instances": [sample["instance"] for sample in three.samples]}

    def many() -> None:
        with ThreadPoolExecutor(CALLERS) as pool:
            list(pool.map(lambda caller: [caller.predict(body) for _ in range(25)], callers))

    assert len(asked(three, many)) > 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_batcher_that_ends_under_load_costs_nobody_an_answer(
    three: Mesh, callers: Sequence[Rest], how: signal.Signals
) -> None:
    loads = [Load(caller, three) for caller in callers]
    favourite = max(asked(three, lambda: [callers[0].predict(_body(three)) for _ in range(3)]).items(), key=_second)[0]
    for load in loads:
        load.__enter__()
    try:
        _go_on(loads, 5)
        old = three.pids()[favourite]
        os.kill(old, how)
        _go_on(loads, 20)
        wait_restarted(three, favourite, old)
        _go_on(loads, 5)
        before = answered(three)[favourite]
        until(lambda: answered(three)[favourite] > before + 20, within_s=BACK_WITHIN_S, what="it has its share again")
    finally:
        for load in loads:
            load.__exit__()
    assert [load.failures for load in loads] == [[]] * CALLERS


def _second(item: tuple[str, int]) -> int:
    return item[1]


def _body(mesh: Mesh) -> dict[str, object]:
    return {"instances": [mesh.samples[0]["instance"]]}


def _go_on(loads: Sequence[Load], number: int) -> None:
    """Every caller gets as many more answers, or a failure."""
    before = [load.right for load in loads]

    def enough() -> bool:
        return any(load.failures for load in loads) or all(
            load.right >= right + number for load, right in zip(loads, before, strict=True)
        )

    until(enough, within_s=BACK_WITHIN_S, what="predictions go on")
