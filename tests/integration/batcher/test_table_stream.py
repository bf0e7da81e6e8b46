"""The serving table as routers hand it over: whole, in steps, wrong, interrupted, large."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from infermesh.router.v1 import serving_table_pb2

from services.supervisor.parts.part import Part
from services.supervisor.ports import free_ports
from tests.support.batcher_faces_calls import asking, digits_request, events
from tests.support.batcher_faces_process import FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually

TIMEOUT_S = 10.0


def step(*models: Any, revision: int, removed: tuple[str, ...] = ()) -> serving_table_pb2.WatchServingTableResponse:
    return serving_table_pb2.WatchServingTableResponse(revision=revision, models=models, removed_models=removed)


async def version_of(stub: Any, model: str) -> str:
    """The version that answers; the status's name where none does."""
    try:
        answer = await stub.Predict(digits_request(model_name=model), timeout=TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return str(answer.model_version)


def acknowledged(router: FakeRouter, revision: int) -> bool:
    return bool(router.heard) and router.heard[-1].acknowledged_revision == revision


async def test_a_step_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    router = FakeRouter(
        full_table(served_model("v1.0.0", name="kept"), served_model("v1.0.0", name="gone"), revision=5)
    )
    async with serving(router=router) as address:
        part = batcher_part(tmp_path, router=address)
        async with running(part), asking(part) as stub:
            router.steps.put_nowait(step(served_model("v2.0.0", "v1.0.0", name="new"), revision=6, removed=("gone",)))
            await eventually(lambda: acknowledged(router, 6))
            names = ("kept", "gone", "new")
            assert [await version_of(stub, name) for name in names] == ["v1.0.0", "NOT_FOUND", "v2.0.0"]
            router.steps.put_nowait(step(served_model("v1.0.0", name="new"), revision=8))
            await eventually(lambda: acknowledged(router, 8))
            assert [await version_of(stub, name) for name in names] == ["v1.0.0", "NOT_FOUND", "v1.0.0"]
            router.steps.put_nowait(full_table(served_model("v3.0.0", name="gone"), revision=9))
            await eventually(lambda: acknowledged(router, 9))
            assert [await version_of(stub, name) for name in names] == ["NOT_FOUND", "v3.0.0", "NOT_FOUND"]
    assert [heard.acknowledged_revision for heard in router.heard] == [0, 5, 6, 8, 9]
    assert {(heard.batcher_id, heard.address, heard.error_message) for heard in router.heard} == {
        ("batcher-0", f"127.0.0.1:{part.ports['batcher']}", "")
    }


async def test_a_step_that_cannot_be_is_refused_whole_and_the_next_one_is_taken(tmp_path: Path) -> None:
    bad = served_model("v2.0.0", name="bad")
    del bad.versions[0].schema.outputs[:]
    router = FakeRouter(full_table(served_model("v1.0.0", name="good"), revision=5))
    async with serving(router=router) as address:
        part = batcher_part(tmp_path, router=address)
        async with running(part), asking(part) as stub:
            router.steps.put_nowait(step(served_model("v2.0.0", name="good"), bad, revision=6, removed=("good",)))
            await eventually(lambda: len(router.heard) == 3)
            assert router.heard[-1].acknowledged_revision == 5
            assert "revision 6" in router.heard[-1].error_message
            assert [await version_of(stub, name) for name in ("good", "bad")] == ["v1.0.0", "NOT_FOUND"]
            router.steps.put_nowait(step(served_model("v2.0.0", name="good"), revision=7))
            await eventually(lambda: acknowledged(router, 7))
            assert router.heard[-1].error_message == ""
            assert await version_of(stub, "good") == "v2.0.0"
    assert events(part, level="error") == []


async def test_a_router_that_dies_is_not_missed_and_its_successor_is_followed(tmp_path: Path) -> None:
    [port] = free_ports(1)
    router = FakeRouter(full_table(served_model("v1.0.0"), revision=5))
    part = batcher_part(tmp_path, router=f"127.0.0.1:{port}")
    async with asyncio.TaskGroup() as group:
        served = group.create_task(_serve_until(router, port, ready := asyncio.Event(), end := asyncio.Event()))
        await ready.wait()
        async with running(part), asking(part) as stub:
            await eventually(lambda: acknowledged(router, 5))
            end.set()
            await served
            await eventually(lambda: events(part, level="warning"), what="it misses the router")
            assert await version_of(stub, "digits") == "v1.0.0"
            successor = FakeRouter(full_table(served_model("v2.0.0"), revision=9))
            async with serving(router=successor, port=port):
                await eventually(lambda: acknowledged(successor, 9))
                assert await version_of(stub, "digits") == "v2.0.0"
            assert successor.heard[0].acknowledged_revision == 5, "the successor learns what is in force"
    assert events(part, level="error") == []


async def _serve_until(router: FakeRouter, port: int, ready: asyncio.Event, end: asyncio.Event) -> None:
    async with serving(router=router, port=port):
        ready.set()
        await end.wait()


async def test_a_step_on_top_of_a_table_from_disk_counts(tmp_path: Path) -> None:
    """A router that remembers the batcher may go on where it was."""
    first = FakeRouter(full_table(served_model("v1.0.0"), served_model("v1.0.0", name="other"), revision=5))
    async with serving(router=first) as address, running(batcher_part(tmp_path, router=address)):
        await eventually((tmp_path / "data" / "serving_table.bin").exists, what="the table is on disk")
    second = FakeRouter(step(served_model("v2.0.0"), revision=6))
    async with serving(router=second) as address:
        part = batcher_part(tmp_path, router=address)
        async with running(part), asking(part) as stub:
            await eventually(lambda: acknowledged(second, 6))
            assert second.heard[0].acknowledged_revision == 5
            assert [await version_of(stub, name) for name in ("digits", "other")] == ["v2.0.0", "v1.0.0"]


async def test_callers_hardly_wait_while_one_model_of_thousands_changes(tmp_path: Path) -> None:
    models = [served_model("v1.0.0", "v1.1.0", name=f"model-{place:04}") for place in range(2000)]
    router = FakeRouter(full_table(*models, revision=1))
    async with serving(router=router) as address:
        part = batcher_part(tmp_path, router=address)
        async with running(part), asking(part) as stub:
            await eventually(lambda: acknowledged(router, 1), timeout_s=30)
            waits: list[float] = []
            steps = asyncio.create_task(_change(router, part), name="changes")
            loop = asyncio.get_running_loop()
            while not steps.done():
                began_s = loop.time()
                assert await version_of(stub, "model-0007") == "v1.0.0"
                waits.append(loop.time() - began_s)
            await steps
    assert sorted(waits)[len(waits) * 9 // 10] < 0.1, f"waits: {sorted(waits)[-5:]}"


async def _change(router: FakeRouter, part: Part) -> None:
    for revision in range(2, 12):
        router.steps.put_nowait(step(served_model("v1.1.0", "v1.0.0", name="model-0001"), revision=revision))
        await eventually(partial(acknowledged, router, revision), what=f"{part.name} took {revision}")
