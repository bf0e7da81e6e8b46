"""Which requests are traced: the caller decides where it says so, chance where it does not, and room is bounded."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batcher.telemetry.traces import Trace, Traces

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def never() -> Traces:
    return Traces(ratio=0.0, rng=Random(1))


def always() -> Traces:
    return Traces(ratio=1.0, rng=Random(1))


@pytest.mark.parametrize(
    ("parent", "traced"),
    [
        (f"00-{TRACE_ID}-{SPAN_ID}-01", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-03", True),
        (f"00-{TRACE_ID}-{SPAN_ID}-00", False),
        (f"00-{TRACE_ID}-{SPAN_ID}-02", False),
        # A later version may say more after what this one says.
        (f"01-{TRACE_ID}-{SPAN_ID}-01-more", True),
        (f"01-{TRACE_ID}-{SPAN_ID}-00-more", False),
    ],
)
def test_a_callers_decision_is_honoured(parent: str, traced: bool) -> None:
    headers = {b"traceparent": parent.encode(), b"tracestate": b"a=b"}
    for traces in (never(), always()):
        trace = traces.begin(headers, 1.0)
        assert (trace is not None) == traced
        if trace is not None:
            assert (trace.parent, trace.state, trace.arrived_s) == (parent.encode(), b"a=b", 1.0)


def test_what_callers_write_at_length_is_not_kept() -> None:
    parent = f"00-{TRACE_ID}-{SPAN_ID}-01".encode()
    trace = never().begin({b"traceparent": parent, b"tracestate": b"a=" + b"b" * 511}, 0.0)
    assert trace is not None
    assert (trace.parent, trace.state) == (parent, b"")
    longer = f"01-{TRACE_ID}-{SPAN_ID}-01-{'m' * 500}".encode()
    assert never().begin({b"traceparent": longer}, 0.0) is None


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "01",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-0",
        f"00-{TRACE_ID}-{SPAN_ID}-01\n",
    ],
)
def test_a_parent_that_is_none_decides_nothing(parent: str) -> None:
    headers = {b"traceparent": parent.encode()}
    assert never().begin(headers, 0.0) is None
    trace = always().begin(headers, 0.0)
    assert trace is not None
    assert trace.parent == b""


@given(st.binary(max_size=80))
def test_no_header_is_too_odd(parent: bytes) -> None:
    trace = always().begin({b"traceparent": parent}, 0.0)
    assert trace is None or trace.parent in (b"", parent)


@pytest.mark.parametrize("ratio", [0.5, 0.03, 0.001])
def test_chance_traces_the_share_that_is_asked_for(ratio: float) -> None:
    traces, requests = Traces(ratio=ratio, rng=Random(7)), 200_000
    begun = [traces.begin({}, 0.0) is not None for _ in range(requests)]
    # Five standard deviations of the binomial distribution; the seed makes it the same number every time.
    assert abs(sum(begun) - ratio * requests) < 5 * (ratio * (1 - ratio) * requests) ** 0.5
    if ratio == 0.5:
        together = sum(one and other for one, other in pairwise(begun))
        assert together == pytest.approx(requests / 4, rel=0.05)


def test_what_is_finished_waits_within_a_bound_and_leaves_oldest_first() -> None:
    traces = Traces(ratio=1.0, rng=Random(1), held_max=3)
    made = [Trace(b"", arrived_s=float(number)) for number in range(5)]
    for one in made:
        traces.end(one)
    assert (len(traces), traces.dropped) == (3, 2)
    assert traces.take(2) == made[:2]
    assert traces.take(9) == made[2:3]
    assert traces.take(9) == []
