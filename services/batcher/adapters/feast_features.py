"""Rows of feature views out of Feast's online store, through Feast's own feature server (`feast serve`).

Not through its library in this process: that pins other versions of what the mesh pins, is some 450 MB, and its calls
would hold the one thread that carries the requests. The server converts ids to the type that Feast's entity has, and
refuses a whole request for one id that is none. Ids are what callers write, so a refusal is no failure of the server:
it is asked once more without the ids that are no numbers, or none of that size.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime

import httpx
import orjson

from services.batcher.domain.breaker import Breaker
from services.batcher.domain.feature_views import Lookup, StoredRow, ViewPlan
from services.batcher.engines.feature_ports import Read
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_TIMEOUT_S = 0.5
"""Of one read, all its calls together; a request waits far less, and what comes later serves the next."""
_CALLS_MAX = 64
"""Reads on their way; beyond it nothing is taken."""
_PRESENT = "PRESENT"
_NO_IDS = ("invalid literal", "Value out of range", "Exceeds the limit")
"""How the server's error begins where an id is none of the entity's type."""
_ID_BITS = (64, 32)
"""Of entities whose ids are numbers, as Feast has them."""


class FeastFeatures:
    """A `FeatureStore`. Raises INVALID_FIELD where `url` is no http:// or https:// URL."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        if not url.startswith(("http://", "https://")):
            raise MeshError(Reason.INVALID_FIELD, "INFERMESH_BATCHER_FEAST_URL must begin with http:// or https://")
        self._url = f"{url.rstrip('/')}/get-online-features"
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False)
        self._clock = clock
        self._breaker = Breaker()
        self._away_until_s = float("-inf")
        self._tasks: set[asyncio.Task[None]] = set()
        self.errors = 0
        """Calls without an answer that can be used."""

    @property
    def problem(self) -> str:
        """Not empty for a time that grows after each failure; the first read after it is the probe."""
        return "is away" if self._clock.monotonic() < self._away_until_s else ""

    def read(self, lookups: Sequence[Lookup]) -> Read:
        """Asks for each view at once."""
        future: Read = asyncio.get_running_loop().create_future()
        if len(self._tasks) >= _CALLS_MAX:
            future.set_result(None)
            return future
        task = asyncio.create_task(self._answer(lookups, future), name="features from Feast")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return future

    async def close(self) -> None:
        """Gives up what is on its way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    async def _answer(self, lookups: Sequence[Lookup], future: Read) -> None:
        views: dict[str, tuple[ViewPlan, dict[str, None]]] = {}
        for lookup in lookups:
            views.setdefault(lookup.view.source, (lookup.view, {}))[1][lookup.entity_id] = None
        rows: Sequence[StoredRow | None] | None = None
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                found = await asyncio.gather(*(self._view(view, list(ids)) for view, ids in views.values()))
            by_source = dict(zip(views, found, strict=True))
            rows = [by_source[lookup.view.source].get(lookup.entity_id) for lookup in lookups]
            self._breaker.probed()
        except (httpx.HTTPError, OSError, ValueError, LookupError, TypeError) as error:
            self.errors += 1
            delay_s = self._breaker.failed(self._clock.monotonic())
            self._away_until_s = self._clock.monotonic() + delay_s
            log.warning("Feast is left alone for a while", kind=type(error).__name__, delay_s=delay_s)
        finally:
            if not future.done():
                future.set_result(rows)

    async def _view(self, view: ViewPlan, ids: Sequence[str]) -> Mapping[str, StoredRow]:
        """The rows of one view by id."""
        answer = await self._ask(view, ids)
        for bits in _ID_BITS:
            if not _refused(answer):
                break
            ids = [one for one in ids if _is_number(one, bits)]
            if not ids:
                return {}
            answer = await self._ask(view, ids)
        answer.raise_for_status()
        return _rows(orjson.loads(answer.content), view, ids)

    async def _ask(self, view: ViewPlan, ids: Sequence[str]) -> httpx.Response:
        body = {"features": [f"{view.name}:{name}" for name in view.features], "entities": {view.entity: ids}}
        content, headers = orjson.dumps(body), {"content-type": "application/json"}
        try:
            return await self._client.post(self._url, content=content, headers=headers)
        except (httpx.ReadError, httpx.RemoteProtocolError):
            # After a refusal the server closes the connection without having said so.
            return await self._client.post(self._url, content=content, headers=headers)


def _refused(answer: httpx.Response) -> bool:
    refused = answer.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    return refused and answer.text.lstrip('"').startswith(_NO_IDS)


def _is_number(entity_id: str, bits: int) -> bool:
    """Whether the server takes it where ids are whole numbers of so many bits."""
    try:
        return -(1 << bits - 1) <= int(entity_id) < 1 << bits - 1
    except ValueError:
        return False


def _rows(document: Mapping[str, object], view: ViewPlan, ids: Sequence[str]) -> Mapping[str, StoredRow]:
    """Raises LookupError, TypeError or ValueError where it is no answer of the feature server."""
    metadata, results = document["metadata"], document["results"]
    if not isinstance(metadata, dict) or not isinstance(results, list):
        raise TypeError("no answer of a feature server")
    columns = dict(zip(metadata["feature_names"], results, strict=True))
    rows: dict[str, StoredRow] = {}
    for place, entity_id in enumerate(ids):
        values: dict[str, object] = {}
        moments: list[float] = []
        for name in view.features:
            column = columns[name]
            if column["statuses"][place] == _PRESENT and column["values"][place] is not None:
                values[name] = column["values"][place]
                moments.append(datetime.fromisoformat(column["event_timestamps"][place]).timestamp())
        if values:
            rows[entity_id] = StoredRow(values, min(moments), len(orjson.dumps(values)))
    return rows
