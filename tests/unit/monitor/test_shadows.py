"""Shadow reports: the interval, and what is refused."""

import pytest
from scipy.stats import binomtest

from services.common.errors import MeshError
from services.monitor.convert.shadows import shadow_report_to_proto
from services.monitor.domain.shadows import ShadowPair, ShadowReport, wilson_interval
from services.monitor.engines.shadows import Shadows
from tests.support.clock import FakeClock
from tests.support.monitor_shadows import MemoryExampleStore
from tests.support.monitor_stores import MemoryStore


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (1, 1), (0, 50), (3, 50), (50, 50), (123, 4567), (1, 10**6)])
def test_the_interval_is_wilsons(hits: int, total: int) -> None:
    expected = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits, total) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_nothing_compared_says_nothing() -> None:
    shown = shadow_report_to_proto(ShadowReport(ShadowPair("digits", "v2.0.0", "v1.0.0")))
    assert (shown.disagreement_rate, shown.disagreement_low, shown.disagreement_high) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("model", "version", "examples_max", "field"),
    [("No Name", "", 0, "model_name"), ("digits", "two", 0, "shadow_version"), ("digits", "", 101, "examples_max")],
)
async def test_a_wrong_question_is_refused(model: str, version: str, examples_max: int, field: str) -> None:
    memory = MemoryStore()
    shadows = Shadows(reader=memory, examples=MemoryExampleStore(memory), clock=FakeClock(), retention_days=30)
    with pytest.raises(MeshError) as caught:
        await shadows.find(model, shadow_version=version, start=None, end=None, examples_max=examples_max)
    assert [violation.field for violation in caught.value.violations] == [field]
