"""What is told of an engine, in metrics and on the operators' page: what waits, what runs, how its backends do."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime

import orjson
import pytest

from services.batcher.domain.failure import FailureKind
from services.batcher.domain.serving import Batching
from services.batcher.engines.engine import Engine
from services.batcher.telemetry.batches import BatchStats
from services.batcher.telemetry.engine_families import EngineFamilies
from services.batcher.telemetry.failures import LastFailures
from services.batcher.telemetry.labels import LabelSets
from services.batcher.telemetry.night_view import LANES_MAX, engine_part, lanes_part
from services.common.clock import LoopClock
from services.common.errors import Reason
from tests.support.batcher_engine_fakes import Fleet, backend, request, served
from tests.unit.batcher.engine_driving import OPTIONS, always, begin, new_engine, now_s

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

CLOCK = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
VERSION = (("model", "m"), ("version", "v1.0.0"))


def figures(engine: Engine, *, versions_max: int = 500) -> Mapping[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and labels."""
    families = EngineFamilies(engine, LabelSets(versions_max=versions_max), CLOCK)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families.collect()
        for sample in family.samples
    }


async def test_what_waits_and_what_runs_is_told() -> None:
    fleet = Fleet("a:1")
    fleet.servers["a:1"].held = True
    engine = new_engine(fleet)
    await engine.start()
    version = served(batching=Batching(max_batch_size=2))
    calls = begin(engine, *(request(version, [number]) for number in range(7)))
    await asyncio.sleep(0.001)
    told = figures(engine)
    in_flight = told["model_batches_in_flight", VERSION]
    assert in_flight == len(fleet.servers["a:1"].sent) > 0
    assert told["model_rows_in_flight", VERSION] == 2 * in_flight
    assert told["model_rows_waiting", VERSION] == 7 - 2 * in_flight
    assert told["model_requests_waiting", VERSION] == 7 - 2 * in_flight
    assert told["model_requests_in_flight", VERSION] == 2 * in_flight
    assert told["model_queue_depth", (("model", "m"),)] == 7 - 2 * in_flight
    assert told["batcher_input_bytes", ()] == 7 * 16
    place = (("backend", "a:1"), *VERSION)
    assert told["model_backend_batches", place] == in_flight <= told["model_backend_slots", place]
    fleet.servers["a:1"].held = False
    while fleet.servers["a:1"].waiting:
        fleet.servers["a:1"].release()
    await asyncio.gather(*calls)
    told = figures(engine)
    assert told["model_rows_waiting", VERSION] == told["model_batches_in_flight", VERSION] == 0
    assert told["batcher_engine_events_total", (("event", "requests"),)] == 7
    assert told["model_backend_expected_ms", place] > 0
    await engine.stop()


async def test_a_backend_that_is_down_says_so_and_why() -> None:
    fleet = Fleet("a:1", "b:1")
    fleet.servers["a:1"].down = True
    engine = new_engine(fleet)
    await engine.start()
    await asyncio.gather(*begin(engine, *(request(served(backend("a:1"), backend("b:1")), [n]) for n in range(4))))
    shown = lanes_part(engine, now_s())["shown"]
    assert isinstance(shown, list)
    by_backend = {one["backend"]: one for one in shown[0]["backends"]}
    assert by_backend["a:1"]["state"] == "down"
    assert by_backend["a:1"]["why_not"].startswith("its server, a:1, does not answer, for ")
    await engine.stop()


async def test_batches_that_fail_are_counted_by_kind() -> None:
    fleet, batches = Fleet("a:1"), BatchStats(LabelSets())
    engine = Engine(clock=CLOCK, open_client=fleet, options=OPTIONS, observer=batches)
    await engine.start()
    fleet.servers["a:1"].answer = always(FailureKind.MODEL)
    await asyncio.gather(*begin(engine, request(served(), [1])), return_exceptions=True)
    samples = [sample for family in batches.collect() for sample in family.samples]
    failed = {sample.labels["kind"]: sample.value for sample in samples if sample.name == "model_batch_failures_total"}
    assert failed == {"MODEL": len(fleet.servers["a:1"].sent)}
    await engine.stop()


async def test_backends_of_versions_beyond_the_bound_have_no_labels() -> None:
    engine = new_engine(Fleet("a:1"))
    await engine.start()
    await asyncio.gather(*begin(engine, *(request(served(version=f"v1.0.{n}"), [n]) for n in range(4))))
    told = figures(engine, versions_max=2)
    places = {labels for name, labels in told if name == "model_backend_slots"}
    assert len(places) == 2
    assert ("model_rows_waiting", (("model", "__other__"), ("version", "__other__"))) in told
    await engine.stop()


async def test_the_page_is_bounded_and_shows_the_busiest_first() -> None:
    fleet = Fleet("a:1")
    engine = new_engine(fleet)
    await engine.start()
    await asyncio.gather(*begin(engine, *(request(served(version=f"v1.0.{n}"), [n]) for n in range(LANES_MAX + 5))))
    fleet.servers["a:1"].held = True
    calls = begin(engine, request(served(version="v1.0.34"), [1, 2, 3]))
    await asyncio.sleep(0.001)
    part = lanes_part(engine, now_s())
    shown = part["shown"]
    assert isinstance(shown, list)
    assert (len(shown), part["left_out"]) == (LANES_MAX, 5)
    assert (shown[0]["version"], shown[0]["rows_in_flight"]) == ("v1.0.34", 3)
    assert len(orjson.dumps({**part, **engine_part(engine)})) < 30_000
    fleet.servers["a:1"].release()
    await asyncio.gather(*calls)
    await engine.stop()


async def test_the_last_failures_are_kept_newest_first() -> None:
    failures = LastFailures(kept_max=2)
    for number in range(3):
        failures.note(
            ended_s=float(number),
            model_name="m",
            version="v1.0.0",
            request_id=f"r{number}",
            reason=Reason.QUEUE_FULL,
            message="x" * 1000,
        )
    lines = list(failures.lines(5.0))
    assert [(line["request_id"], line["ago_s"]) for line in lines] == [("r2", 3.0), ("r1", 4.0)]
    assert all(len(str(line["message"])) == 300 for line in lines)
