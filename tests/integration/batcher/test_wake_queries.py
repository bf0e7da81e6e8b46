"""What KEDA asks Prometheus to wake a version by, asked of the metrics that a real batcher exposes."""

import asyncio
from pathlib import Path

import httpx
import pytest

from services.common.body import at, items, text
from services.operator.domain.manifests.desired import desired
from services.operator.domain.manifests.scaling import QUEUE, queries
from services.operator.domain.spec import read_spec
from services.supervisor.parts.part import Part
from tests.integration.batcher.test_cold_versions import TIMEOUT_S, asked, setting
from tests.support.batcher_faces_calls import address_of
from tests.support.operator_cases import FACTS, OPTIONS, body
from tests.support.promql import Scrape, evaluated
from tests.support.waiting import eventually

ALL_TARGETS = {"targetConcurrency": 4, "targetRequestsPerSec": 50, "targetQueueDepth": 8, "targetLatencyMs": 100}


def triggers() -> list[tuple[str, float]]:
    """The queries of the ScaledObject of a version, each with what it must exceed to be active."""
    spec = {"modelName": "m", "autoscaling": {"minReplicas": 0, **ALL_TARGETS}}
    [made] = [
        one for one in desired(read_spec(body(spec)), FACTS, OPTIONS, replicas=1) if one["kind"] == "ScaledObject"
    ]
    asked_for = [at(one, "metadata") for one in items(made, "spec", "triggers")]
    return [(text(one, "query"), float(text(one, "activationThreshold"))) for one in asked_for]


def active(scrapes: list[Scrape]) -> list[bool]:
    """Of each trigger whether KEDA would keep the version awake by it."""
    return [(evaluated(query, scrapes) or 0.0) > least for query, least in triggers()]


async def scrape(part: Part) -> Scrape:
    """As Prometheus does it."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{address_of(part)}/metrics", timeout=5)
    return Scrape(asyncio.get_running_loop().time(), answer.text)


async def test_whoever_waits_for_a_cold_version_wakes_it_and_answers_keep_it_awake(tmp_path: Path) -> None:
    async with setting(tmp_path) as made:
        await made.rest.get("/v2/models/m")
        before = await scrape(made.part)
        assert not any(active([before])), "nobody asks"
        loaded = asyncio.Event()
        made.deployer.load = loaded.wait  # type: ignore[assignment]
        calls = asyncio.gather(*(made.stub.Predict(asked(number), timeout=TIMEOUT_S) for number in range(5)))
        waiting = queries("m", "v1.0.0")[QUEUE]

        async def all_wait() -> bool:
            return evaluated(waiting, [await scrape(made.part)]) == 5.0

        await eventually(all_wait, what="the five who wait are told of")
        assert active([await scrape(made.part)])[0], "KEDA goes from zero to one"
        made.tell(cold=False, revision=2)
        loaded.set()
        await calls
        first = await scrape(made.part)
        assert evaluated(waiting, [first]) == 0.0
        assert active([first])[0] is False
        await made.stub.Predict(asked(99), timeout=TIMEOUT_S)
        both = [first, await scrape(made.part)]
        assert active(both)[:2] == [False, True], "what is answered between two scrapes keeps it awake"
        # Every query is answered, by numbers.
        assert [evaluated(query, both) is not None for query, _ in triggers()] == [True] * 4


def test_a_query_that_nothing_answers_is_told_from_zero() -> None:
    text_of = '# TYPE x gauge\nx{model="m",version="v1"} 0\n'
    assert evaluated('sum(x{model="m",version="v1"})', [Scrape(0, text_of)]) == 0.0
    assert evaluated('sum(x{model="m",version="v2"})', [Scrape(0, text_of)]) is None
    assert evaluated('sum(x{model="m"}) + sum(y{model="m"})', [Scrape(0, text_of)]) is None
    with pytest.raises(AssertionError, match="not a query"):
        evaluated('count(x{model="m"})', [Scrape(0, text_of)])
