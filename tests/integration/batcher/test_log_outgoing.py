"""What is sent to neighbours that hang up again and again leaves nothing behind."""

import asyncio
from pathlib import Path

import pytest

from services.batcher.adapters.outgoing import Outgoing
from services.batcher.adapters.prediction_log import PredictionLog
from services.batcher.adapters.serving_table import TableWatcher
from services.batcher.adapters.snapshot import Snapshot
from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from tests.support.batcher_faces_process import serving
from tests.support.waiting import eventually

DIALS = 4


def readers() -> list[str]:
    """The tasks in which gRPC reads what is to be sent."""
    return [name for task in asyncio.all_tasks() if "_consume_request" in (name := repr(task.get_coro()))]


@pytest.mark.parametrize("what", ["prediction log", "serving table"])
async def test_no_task_is_left_behind_by_a_neighbour_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    dialled: list[object] = []
    end = Outgoing.end

    def ended(outgoing: Outgoing[object]) -> None:
        dialled.append(outgoing)
        end(outgoing)

    monkeypatch.setattr(Outgoing, "end", ended)
    clock = SystemClock()
    async with serving() as address:
        channel = open_channel(address)
        if what == "prediction log":
            run = PredictionLog(channel, batcher_id="b", clock=clock, rows_max=10, flush_s=0.1).send
        else:
            run = TableWatcher(
                channel,
                batcher_id="b",
                address="a",
                snapshot=Snapshot(tmp_path),
                prepare=lambda _: None,
                apply=lambda _: None,
                revoke=lambda _: None,
                clock=clock,
            ).run
        task = asyncio.create_task(run(), name=what)
        await eventually(lambda: len(dialled) >= DIALS, what="it dialled again and again")
        await eventually(lambda: len(readers()) <= 1, timeout_s=2, what="the readers ended")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await channel.close()
        await eventually(lambda: not readers(), timeout_s=2, what="the last one too")
