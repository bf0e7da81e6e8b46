"""What operators ask of a carried batcher: answered on the batcher's loop, and while there is none."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import orjson
import pytest

from services.batcher.bridge.messages import Answer, Handler, Request, answer
from services.batcher.faces.application import Application, Built
from services.batcher.faces.operations import Operations


@dataclass
class Carried:
    """A batcher as far as operators see it."""

    operators: Mapping[str, Handler]


class Asked:
    """Answers with the name of the thread that it is asked on."""

    async def __call__(self, _request: Request) -> Answer:
        return answer(200, threading.current_thread().name.encode(), [])


@pytest.fixture
def batchers_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="the batcher's")
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


def never() -> Built:
    """Nothing is built here."""
    raise AssertionError


async def ask(operations: Operations, path: str) -> tuple[int, bytes]:
    """Status and body."""
    answered = await operations.ask(Request("GET", path, {}, b"", True))
    return int(answered.headers[0][1]), answered.body


async def test_before_the_batcher_it_lives_and_is_not_ready() -> None:
    operations = Operations(Application(never))
    assert (await ask(operations, "/health"))[0] == 200
    status, body = await ask(operations, "/ready")
    assert (status, orjson.loads(body)["waiting_for"]) == (503, ["the gateway's listener, which the router tells"])
    assert (await ask(operations, "/metrics"))[0] == 503


async def test_questions_are_answered_on_the_batchers_loop(batchers_loop: asyncio.AbstractEventLoop) -> None:
    application = Application(never)
    application.newest = (batchers_loop, cast("Built", Carried({"/metrics": Asked()})))
    assert await ask(Operations(application), "/metrics") == (200, b"the batcher's")
    assert (await ask(Operations(application), "/v2/models/digits"))[0] == 404


async def test_a_loop_that_has_ended_is_said() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    application = Application(never)
    application.newest = (loop, cast("Built", Carried({"/ready": Asked()})))
    with contextlib.closing(loop):
        status, body = await ask(Operations(application), "/ready")
    assert status == 503
    assert b"does not answer" in body
