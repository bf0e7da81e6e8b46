"""Features out of a real Feast feature server, where Feast is installed, and out of servers that are none."""

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from services.batcher.adapters.feast_features import FeastFeatures
from services.batcher.domain.feature_views import Lookup
from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.common.feature_view import FeatureStoreKind, FeatureView
from tests.support.batcher_feature_fakes import joining
from tests.support.parts import free_port
from tests.support.waiting import eventually

FEAST = os.environ.get("INFERMESH_TEST_FEAST") or shutil.which("feast") or ""
STATS = FeatureView("user_stats", "user_id", {"age": "int", "ctr": "float"}, store=FeatureStoreKind.FEAST)
VECTORS = FeatureView("item_stats", "item_id", {"embedding": "array<float>"}, store=FeatureStoreKind.FEAST)
_REPOSITORY = """
    project: demo
    registry: registry.db
    provider: local
    online_store: {type: sqlite, path: online.db}
    entity_key_serialization_version: 3
"""
_DEFINITIONS = """
    from datetime import timedelta
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Float32, Int64
    users = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    items = Entity(name="item", join_keys=["item_id"], value_type=ValueType.STRING)
    forever = timedelta(days=3650)
    user_stats = FeatureView(
        name="user_stats", entities=[users], ttl=forever,
        schema=[Field(name="age", dtype=Int64), Field(name="ctr", dtype=Float32)],
        source=FileSource(path="users.parquet", timestamp_field="event_timestamp"))
    item_stats = FeatureView(
        name="item_stats", entities=[items], ttl=forever, schema=[Field(name="embedding", dtype=Array(Float32))],
        source=FileSource(path="items.parquet", timestamp_field="event_timestamp"))
"""
_FILL = """
    import sys
    from datetime import datetime, UTC
    import pandas as pd
    from feast import FeatureStore
    at = [datetime(2026, 2, 1, tzinfo=UTC)] * 2
    users = pd.DataFrame({"user_id": [42, 43], "age": [41, None], "ctr": [0.25, 0.5], "event_timestamp": at})
    items = pd.DataFrame({"item_id": ["a1", "7"], "embedding": [[0.5, 1.5], [2.0, 3.0]], "event_timestamp": at})
    if sys.argv[1] == "files":
        users.to_parquet("users.parquet"), items.to_parquet("items.parquet")
    else:
        store = FeatureStore(".")
        store.write_to_online_store("user_stats", users), store.write_to_online_store("item_stats", items)
"""


def lookups(view: FeatureView, *ids: object) -> list[Lookup]:
    return joining(view).lookups([{view.entity: one, "x": 1.0} for one in ids])


@pytest.fixture(scope="module")
def feast_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not FEAST:
        pytest.skip("Feast is not installed: put its command on the PATH, or name it in INFERMESH_TEST_FEAST")
    folder, tools = tmp_path_factory.mktemp("feast"), tmp_path_factory.mktemp("tools")
    (folder / "feature_store.yaml").write_text(textwrap.dedent(_REPOSITORY))
    (folder / "definitions.py").write_text(textwrap.dedent(_DEFINITIONS))
    (tools / "fill.py").write_text(textwrap.dedent(_FILL))
    python = str(Path(FEAST).with_name("python"))
    for step in ([python, str(tools / "fill.py"), "files"], [FEAST, "apply"], [python, str(tools / "fill.py"), "rows"]):
        subprocess.run(step, cwd=folder, check=True, capture_output=True, timeout=60)
    port = free_port()
    with (folder / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            [FEAST, "serve", "-h", "127.0.0.1", "-p", str(port)], cwd=folder, stdout=log, stderr=log
        )
        yield f"http://127.0.0.1:{port}"
        server.terminate()
        server.wait(timeout=20)


@pytest.fixture
async def feast(feast_url: str) -> AsyncIterator[FeastFeatures]:
    async with httpx.AsyncClient(trust_env=False) as client:

        async def ready() -> bool:
            try:
                return (await client.get(f"{feast_url}/health")).status_code == 200
            except httpx.HTTPError:
                return False

        await eventually(ready, timeout_s=50, what="the feature server answers")
    store = FeastFeatures(feast_url, clock=SystemClock())
    yield store
    await store.close()


async def values(store: FeastFeatures, wanted: Sequence[Lookup]) -> list[object]:
    """The server's first calls may be slow; the engine would not wait for them either."""

    async def ask() -> list[object]:
        rows = await store.read(wanted)
        assert rows is not None
        return [row and (row.values, row.at_s) for row in rows]

    return await eventually(ask, timeout_s=20, what="the feature server answers in time")


AT_S = 1769904000.0
"""2026-02-01."""


async def test_rows_come_by_ids_of_any_type_and_what_is_missing_is_left_out(feast: FeastFeatures) -> None:
    assert await values(feast, lookups(STATS, 42, "43", 99)) == [
        ({"age": 41, "ctr": 0.25}, AT_S),
        ({"ctr": 0.5}, AT_S),
        None,
    ]
    mixed = [*lookups(VECTORS, 7, "a1"), *lookups(STATS, 42)]
    assert await values(feast, mixed) == [
        ({"embedding": [2.0, 3.0]}, AT_S),
        ({"embedding": [0.5, 1.5]}, AT_S),
        ({"age": 41, "ctr": 0.25}, AT_S),
    ]


async def test_an_id_that_is_none_harms_no_other(feast: FeastFeatures) -> None:
    assert await values(feast, lookups(STATS, 42, "ann", 43, "bob")) == [
        ({"age": 41, "ctr": 0.25}, AT_S),
        None,
        ({"ctr": 0.5}, AT_S),
        None,
    ]


@asynccontextmanager
async def serving(reply: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """The URL of a server that answers each connection by `reply`, until it returns or the connection ends."""
    connections: set[asyncio.Task[None] | None] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reply(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with asyncio.timeout(10):
            await asyncio.gather(*(one for one in connections if one is not None))


async def test_no_id_that_a_caller_writes_takes_the_server_from_the_others(feast: FeastFeatures) -> None:
    await values(feast, lookups(STATS, 42))
    errors = feast.errors
    await eventually(lambda: feast.problem == "", what="it is asked")
    wrong = [2**63, -(2**63) - 1, "9" * 500, "4.0", *(f"none {place}" for place in range(100))]
    for _ in range(3):
        rows = await feast.read(lookups(STATS, 42, *wrong))
        assert rows is not None
        assert [row and row.values for row in rows] == [{"age": 41, "ctr": 0.25}, *[None] * len(wrong)]
    assert await feast.read(lookups(STATS, *wrong)) == [None] * len(wrong)
    assert (feast.problem, feast.errors) == ("", errors)


@pytest.mark.parametrize("bits", [32, 64])
async def test_a_refused_read_takes_few_calls(bits: int) -> None:
    """Against what converts ids as Feast does, and closes the connection after a refusal as it does."""
    asked: list[int] = []

    def answer(ids: Sequence[str]) -> tuple[int, object]:
        asked.append(len(ids))
        for one in ids:
            if not one.isdigit():
                return 500, f"invalid literal for int() with base 10: {one!r}"
            if int(one) >= 1 << bits - 1:
                return 500, f"Value out of range: {one}"
        column = {"statuses": ["PRESENT"] * len(ids), "event_timestamps": ["2026-02-01T00:00:00Z"] * len(ids)}
        columns = [{"values": [int(one) for one in ids], **column}] * 3
        return 200, {"metadata": {"feature_names": ["user_id", "age", "ctr"]}, "results": columns}

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        status = 200
        while status == 200:
            head = await reader.readuntil(b"\r\n\r\n")
            (length,) = re.findall(rb"content-length: (\d+)", head.lower())
            status, told = answer(orjson.loads(await reader.readexactly(int(length)))["entities"]["user_id"])
            body = orjson.dumps(told)
            writer.write(f"HTTP/1.1 {status} OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()

    async with serving(reply) as url:
        store = FeastFeatures(url, clock=SystemClock())
        rows = await store.read(lookups(STATS, 42, 2 ** (bits - 1), *(f"none {place}" for place in range(100))))
        await store.close()
    assert rows is not None
    assert [row and row.values for row in rows] == [{"age": 42, "ctr": 42}, *[None] * 101]
    assert (store.problem, store.errors) == ("", 0)
    assert len(asked) <= 3


async def test_a_server_that_trickles_is_not_waited_for() -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not reader.at_eof():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with serving(reply) as url:
        store = FeastFeatures(url, clock=SystemClock())
        async with asyncio.timeout(10):
            assert await store.read(lookups(STATS, 42)) is None
        assert store.problem == "is away"
        await store.close()


async def test_a_server_that_is_away_is_left_alone_and_asked_again() -> None:
    store = FeastFeatures(f"http://127.0.0.1:{free_port()}", clock=SystemClock())
    assert store.problem == ""
    assert await store.read(lookups(STATS, 42)) is None
    assert (store.problem, store.errors) == ("is away", 1)
    await eventually(lambda: store.problem == "", what="it is asked again")
    await store.close()


@pytest.mark.parametrize("answer", [b"", b"{}", b"[]", b'{"metadata": {"feature_names": []}, "results": []}'])
async def test_a_server_that_is_none_counts_as_away(answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(answer)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = FeastFeatures(f"http://127.0.0.1:{port}", clock=SystemClock())
        assert await store.read(lookups(STATS, 42)) is None
        assert store.problem == "is away"
        await store.close()


def test_the_url_must_be_one() -> None:
    with pytest.raises(MeshError, match="INFERMESH_BATCHER_FEAST_URL"):
        FeastFeatures("feast:6566", clock=SystemClock())
