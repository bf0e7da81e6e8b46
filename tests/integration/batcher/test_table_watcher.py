"""What a serving table costs the loop that answers requests: only what changed, and never all at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infermesh.router.v1 import serving_table_pb2

from services.batcher.adapters.serving_table import TableWatcher
from services.batcher.adapters.snapshot import Snapshot
from services.batcher.domain.serving import ServedModel, ServingTable
from services.batcher.faces.caller import INSIDE
from services.batcher.faces.catalog import Catalog
from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from tests.support.batcher_faces_process import FakeRouter, full_table, served_model, serving
from tests.support.waiting import eventually


@dataclass
class Taken:
    """What a watcher handed on."""

    folder: Path
    clock: SystemClock = field(default_factory=SystemClock)
    catalog: Catalog = field(default_factory=Catalog)
    prepared: list[str] = field(default_factory=list)
    applied: list[ServingTable] = field(default_factory=list)
    revoked: list[frozenset[str]] = field(default_factory=list)

    def prepare(self, model: ServedModel) -> None:
        self.prepared.append(model.model_name)
        self.catalog.prepare(model)

    def apply(self, table: ServingTable) -> None:
        self.catalog.apply(table)
        self.applied.append(table)

    @asynccontextmanager
    async def watching(self, router: FakeRouter) -> AsyncIterator[None]:
        """A watcher of that router, restored from the folder."""
        async with serving(router=router) as address:
            channel = open_channel(address)
            watcher = TableWatcher(
                channel,
                batcher_id="batcher-0",
                address="127.0.0.1:1",
                snapshot=Snapshot(self.folder),
                prepare=self.prepare,
                apply=self.apply,
                revoke=self.revoked.append,
                clock=self.clock,
            )
            await watcher.restore()
            tasks = [asyncio.create_task(run(), name=run.__name__) for run in (watcher.run, watcher.keep)]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await channel.close()


async def test_of_a_table_that_comes_again_only_what_changed_is_read_and_compiled(tmp_path: Path) -> None:
    names = [f"model-{place:03}" for place in range(300)]
    router = FakeRouter(full_table(*[served_model("v1.0.0", name=name) for name in names], revision=1))
    taken = Taken(tmp_path)
    async with taken.watching(router):
        await eventually(lambda: len(router.heard) == 2)
        assert taken.prepared == names
        plan = taken.catalog.model("model-004", INSIDE).default
        again = [served_model("v2.0.0" if name == "model-007" else "v1.0.0", name=name) for name in names]
        router.steps.put_nowait(full_table(*again, revision=2))
        await eventually(lambda: len(router.heard) == 3)
    assert taken.prepared[300:] == ["model-007"]
    assert taken.applied[1].models["model-004"] is taken.applied[0].models["model-004"]
    assert taken.catalog.model("model-004", INSIDE).default is plan
    changed = taken.catalog.model("model-007", INSIDE).default
    assert changed is not None
    assert changed.served.version == "v2.0.0"


async def test_what_is_on_disk_is_the_table_in_force(tmp_path: Path) -> None:
    kept, gone = served_model("v1.0.0", name="kept"), served_model("v1.0.0", name="gone")
    router = FakeRouter(full_table(kept, gone, revision=3))
    first = Taken(tmp_path)
    async with first.watching(router):
        await eventually(lambda: len(router.heard) == 2)
        router.steps.put_nowait(
            serving_table_pb2.WatchServingTableResponse(
                revision=4, models=[served_model("v2.0.0", "v1.0.0", name="new")], removed_models=["gone"]
            )
        )
        await eventually(lambda: len(router.heard) == 3)
        await eventually(lambda: b"v2.0.0" in (Snapshot(tmp_path).load() or b""), what="the step is on disk")
    second, silent = Taken(tmp_path), FakeRouter()
    async with second.watching(silent):
        assert second.applied == [first.applied[-1]]
        await eventually(lambda: silent.heard)
        assert silent.heard[0].acknowledged_revision == 4


async def test_a_table_that_a_full_disk_did_not_take_is_there_once_it_does(tmp_path: Path) -> None:
    class HastyClock(SystemClock):
        async def sleep(self, seconds: float) -> None:
            """Sleeps a hundredth."""
            await super().sleep(seconds / 100)

    router = FakeRouter(full_table(served_model("v1.0.0"), revision=3))
    in_the_way = tmp_path / "serving_table.new"
    in_the_way.mkdir()
    async with Taken(tmp_path, clock=HastyClock()).watching(router):
        await eventually(lambda: len(router.heard) == 2)
        await asyncio.sleep(0.05)
        assert Snapshot(tmp_path).load() is None
        in_the_way.rmdir()
        await eventually(lambda: Snapshot(tmp_path).load(), what="the table is on disk")


async def test_a_large_table_lets_requests_through_while_it_is_read(tmp_path: Path) -> None:
    router = FakeRouter()
    turns, turns_at = 0, list[int]()

    class Timed(Taken):
        def prepare(self, model: ServedModel) -> None:
            turns_at.append(turns)
            super().prepare(model)

    taken = Timed(tmp_path)

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    models = [served_model("v1.0.0", name=f"model-{place:04}") for place in range(1000)]
    async with taken.watching(router):
        await eventually(lambda: router.heard)
        ticking = asyncio.create_task(turn(), name="turns of the loop")
        router.steps.put_nowait(full_table(*models, revision=1))
        await eventually(lambda: taken.applied, every_s=0.001)
        ticking.cancel()
    assert len(turns_at) == 1000
    assert len(set(turns_at)) > 10, "the loop turned while the table was read"


async def test_revoked_keys_are_told_without_a_table_and_beside_one_that_is_refused(tmp_path: Path) -> None:
    response = serving_table_pb2.WatchServingTableResponse
    keys = serving_table_pb2.RevokedKeys
    first = full_table(served_model("v1.0.0"), revision=3)
    first.revoked_keys.key_ids.append("k1")
    router, taken = FakeRouter(first), Taken(tmp_path)
    async with taken.watching(router):
        await eventually(lambda: len(router.heard) == 2)
        twice = response(revision=4, models=[served_model("v1.0.0"), served_model("v1.0.0")])
        twice.revoked_keys.key_ids.append("k2")
        router.steps.put_nowait(twice)
        await eventually(lambda: len(router.heard) == 3)
        router.steps.put_nowait(response(revision=4, revoked_keys=keys()))
        await eventually(lambda: len(router.heard) == 4)
    assert taken.revoked == [frozenset({"k1"}), frozenset({"k2"}), frozenset()]
    assert [table.revision for table in taken.applied] == [3]
    # Still refused: keys alone make no table good.
    assert [one.acknowledged_revision for one in router.heard[1:]] == [3, 3, 3]
    assert router.heard[3].error_message == router.heard[2].error_message != ""
