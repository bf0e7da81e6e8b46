"""Shadow copies in a real batcher before a real Triton: a new version that fails, is slow, differs or is away changes
nothing for callers, and what it does is in the log."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import pytest_asyncio
from infermesh.common.v1 import serving_pb2
from infermesh.monitor.v1 import prediction_log_pb2

from examples.rehearsal.models import NEW, OLD, Fault
from services.supervisor.parts.part import Part
from tests.support.batcher_faces_calls import address_of, asking, events, scraped
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, serving
from tests.support.batcher_shadows import question, rehearsal, rehearsing_triton, triton_address
from tests.support.parts import free_port, running
from tests.support.waiting import eventually

CALLERS = 4
TIMEOUT_S = 20.0
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@dataclass
class Setting:
    """A batcher and what it works with."""

    part: Part
    stub: Any
    router: FakeRouter
    monitor: FakeMonitor
    took_s: list[float] = field(default_factory=list)

    async def serve(self, model: serving_pb2.ServedModel) -> None:
        """From now on."""
        revision = self.router.heard[-1].acknowledged_revision + 1
        self.router.steps.put_nowait(full_table(model, revision=revision))
        await eventually(lambda: self.router.heard[-1].acknowledged_revision == revision, what="it is in force")

    async def callers(self, requests: int, fault: Fault = Fault.NONE, *, every: int = 1) -> list[float]:
        """Callers ask so often in all; every so many requests have the fault. Each answer must be the old version's and
        right. How long they took, in seconds."""
        left, took_s = requests, []

        async def caller(seed: int) -> None:
            nonlocal left
            draw = Random(seed)
            while left > 0:
                left -= 1
                request, expected = question(draw, fault if left % every == 0 else Fault.NONE)
                began_s = time.perf_counter()
                answer = await self.stub.Predict(request, timeout=TIMEOUT_S)
                took_s.append(time.perf_counter() - began_s)
                assert (answer.model_version, answer.predictions[0].class_name) == (OLD, expected)

        await asyncio.gather(*(caller(seed) for seed in range(CALLERS)))
        return took_s

    def shadow_groups(self) -> list[prediction_log_pb2.PredictionGroup]:
        """What the log says of the version that gets copies."""
        return [group for group in self.monitor.groups() if group.version == NEW]

    def compared(self) -> Counter[str]:
        """All comparisons so far."""
        total: Counter[str] = Counter()
        for group in self.shadow_groups():
            for one in group.shadow_comparisons:
                assert one.primary_version == OLD
                total += Counter(compared=one.compared_count, disagreed=one.disagreed_count, dropped=one.dropped_count)
                total += Counter(dict(one.failed_by_reason))
        return total

    async def accounted(self, requests: int) -> Counter[str]:
        """Waits until it is known what became of the copies of as many requests."""

        def settled() -> bool:
            told = self.compared()
            return told.total() - told["disagreed"] == requests

        await eventually(settled, what=f"{requests} copies are accounted for")
        return self.compared()


@asynccontextmanager
async def batching(folder: Path, model: serving_pb2.ServedModel, **settings: object) -> AsyncIterator[Setting]:
    router, monitor = FakeRouter(full_table(model)), FakeMonitor()
    async with serving(router=router, monitor=monitor) as neighbours:
        part = batcher_part(
            folder / "batcher",
            router=neighbours,
            monitor=neighbours,
            application="services.batcher.app:app",
            settings={"shadow_timeout_s": 4.0, **settings},
        )
        async with running(part), asking(part) as stub:
            await eventually(lambda: len(router.heard) == 2, what="the table is in force")
            yield Setting(part, stub, router, monitor)
        assert events(part, level="error") == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Of a Triton with both versions."""
    async with rehearsing_triton(tmp_path_factory.mktemp("triton")) as part:
        yield triton_address(part)


def shown(what: str, took_s: list[float]) -> str:
    cuts = statistics.quantiles(took_s, n=100)
    return f"{what}: p50 {cuts[49] * 1000:.2f} ms, p99 {cuts[98] * 1000:.2f} ms of {len(took_s)}"


async def test_a_version_that_fails_is_slow_or_differs_changes_nothing_for_callers(
    tmp_path: Path, address: str
) -> None:
    async with batching(tmp_path, rehearsal(address, percent=100)) as made:
        lines = [shown("healthy", await made.callers(300))]
        told = await made.accounted(300)
        assert (told["disagreed"], set(told)) == (0, set(told) & {"compared", "dropped"})
        assert told["compared"] > 0

        lines.append(shown("every copy fails", await made.callers(300, Fault.ERROR)))
        told = await made.accounted(600)
        assert told["MODEL_FAILED"] > 0
        failed = sum(code != 0 for group in made.shadow_groups() for code in group.request_codes)
        assert failed == told["MODEL_FAILED"]

        lines.append(shown("every copy is slow", await made.callers(300, Fault.SLOW)))
        await made.accounted(900)

        before = told["disagreed"]
        lines.append(shown("every other copy differs", await made.callers(300, Fault.WRONG, every=2)))
        told = await made.accounted(1200)
        assert told["disagreed"] > before
        [example, *_] = [
            one for group in made.shadow_groups() for sums in group.shadow_comparisons for one in sums.examples
        ]
        assert example.primary_output != example.shadow_output
        assert example.difference > 0
        print("", *lines, dict(told), sep="\n")

        own = [group for group in made.monitor.groups() if group.version == OLD]
        assert sum(len(group.request_ids) for group in own) == 1200
        assert not any(kind for group in own for kind in group.request_kinds)
        copies = [kind for group in made.shadow_groups() for kind in group.request_kinds]
        assert set(copies) == {2}
        assert len(copies) == told.total() - told["disagreed"] - told["dropped"]
        metrics = await scraped(made.part)
        assert "model_errors_total" not in metrics
        assert metrics["model_requests_total"] == 1200, "callers' alone"


async def test_a_version_whose_server_is_dead_changes_nothing_for_callers(tmp_path: Path, address: str) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    model = rehearsal(address, percent=100, shadow_address=nowhere)
    async with batching(tmp_path, model, shadow_timeout_s=0.5) as made:
        print("", shown("its server is dead", await made.callers(400)), sep="\n")
        told = await made.accounted(400)
        assert told["compared"] == 0
        assert told["BACKEND_UNAVAILABLE"] > 0
        # It comes to life: copies are answered again, without anybody's doing.
        await made.serve(rehearsal(address, percent=100))

        async def copied() -> bool:
            await made.callers(20)
            return made.compared()["compared"] > 0

        await eventually(copied, what="copies are answered")


async def test_the_page_and_the_metrics_show_what_became_of_copies(tmp_path: Path, address: str) -> None:
    async with batching(tmp_path, rehearsal(address, percent=100)) as made:
        await made.callers(100)
        told = await made.accounted(100)
        async with httpx.AsyncClient(trust_env=False) as client:
            page = (await client.get(f"http://{address_of(made.part)}/debug/batcher", timeout=5)).json()
            text = (await client.get(f"http://{address_of(made.part)}/metrics", timeout=5)).text
        [version] = page["shadows"]["versions"]
        assert (version["model"], version["version"], version["answered"]) == ("rehearsal", NEW, told["compared"])
        assert (page["shadows"]["on_their_way"], page["shadows"]["bytes"], version["waiting"]) == (0, 0, 0)
        line = f'model_shadow_copies_total{{model="rehearsal",result="answered",version="{NEW}"}} {told["compared"]}.0'
        assert line in text
