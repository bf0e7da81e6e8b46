"""Whatever a batcher sends, the monitor takes it or says which field is wrong; it never falls over."""

from typing import TypeVar

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from infermesh.monitor.v1 import prediction_log_pb2

from services.common.errors import MeshError, Reason
from services.monitor.convert.log import chunk_from_proto, reason_name
from services.monitor.domain.aggregate import Cell
from services.monitor.domain.drift.summary import Summary
from services.monitor.domain.figures import figures
from services.monitor.domain.log_rows import sampled_rows
from services.monitor.domain.seconds import add_encoded
from services.monitor.domain.shadows import reports
from services.monitor.engines.stream import RecorderLimits, Waiting

T = TypeVar("T")
LIMITS = RecorderLimits(flush_period_s=1.0, cells_max=10, rows_max=10, sample_rate=1.0)
NOW_US = 1_768_478_400_000_000
TEXT = st.text(max_size=20)
UINT32 = st.integers(0, 2**32 - 1)
NAME = st.sampled_from(["digits", "fraud_detection", "", "No Name", "x" * 100])
COUNTS = st.dictionaries(TEXT, st.integers(0, 2**64 - 1), max_size=5)

LABELS = st.builds(
    prediction_log_pb2.RequestLabels,
    classes=st.lists(TEXT, max_size=3),
    values=st.lists(st.floats(), max_size=3),
)
COMPARISONS = st.builds(
    prediction_log_pb2.ShadowComparisons,
    primary_version=st.sampled_from(["v1.0.0", "v2.0.0", "v2.0.0", "newest"]),
    compared_count=st.integers(0, 2**64 - 1),
    disagreed_count=st.integers(0, 2**64 - 1),
    failed_by_reason=COUNTS,
    dropped_count=st.integers(0, 2**64 - 1),
    examples=st.lists(
        st.builds(
            prediction_log_pb2.ShadowExample,
            request_id=TEXT,
            time_us=st.integers(-(2**63), 2**63 - 1),
            row=UINT32,
            primary_output=TEXT,
            difference=st.floats(),
        ),
        max_size=2,
    ),
)


SAMPLES = st.builds(
    prediction_log_pb2.SampledRows,
    seen_count=st.integers(0, 2**64 - 1),
    row_count=st.integers(0, 3),
    time_us=st.integers(-(2**63), 2**63 - 1),
    columns=st.lists(
        st.builds(
            prediction_log_pb2.SampledColumn,
            feature=TEXT,
            output=st.booleans(),
            numbers=st.lists(st.floats(width=32), max_size=3),
            categories=st.lists(TEXT, max_size=3),
            missing_rows=st.lists(st.integers(0, 3), max_size=2),
        ),
        max_size=2,
    ),
    confidences=st.lists(st.floats(width=32), max_size=3),
)


@st.composite
def groups(draw: st.DrawFn) -> prediction_log_pb2.PredictionGroup:
    size = draw(st.integers(0, 5))
    length = st.sampled_from([size, size, size, 0, size + 1])

    def column(values: st.SearchStrategy[T]) -> list[T]:
        wanted = draw(length)
        return draw(st.lists(values, min_size=wanted, max_size=wanted))

    return prediction_log_pb2.PredictionGroup(
        model_name=draw(NAME),
        version=draw(st.sampled_from(["v1.0.0", "1.2.3", "", "newest"])),
        deployment_name=draw(NAME),
        request_times_us=draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=size, max_size=size)),
        request_latencies_us=column(UINT32),
        request_rows=column(UINT32),
        request_codes=column(UINT32),
        request_reasons=column(UINT32),
        request_ids=column(TEXT),
        predictions_by_class=draw(COUNTS),
        predictions_by_confidence=draw(COUNTS),
        request_users=column(TEXT),
        request_teams=column(TEXT),
        request_input_hashes=column(st.binary(max_size=4)),
        request_outputs=column(st.sampled_from(["", "1", '{"a": 1}', "{", "\0", '"\\u0000"'])),
        request_kinds=column(st.integers(0, 9)),
        request_trace_ids=column(st.binary(max_size=4)),
        request_labels=column(LABELS),
        shadow_comparisons=draw(st.lists(COMPARISONS, max_size=2)),
        sampled_rows=draw(st.one_of(st.none(), st.none(), SAMPLES)),
    )


def refused(message: prediction_log_pb2.RecordPredictionsRequest) -> Reason | None:
    try:
        chunk_from_proto(message)
    except MeshError as error:
        return error.reason
    return None


@given(
    batcher_id=TEXT,
    sequence=st.integers(-(2**63), 2**63 - 1),
    epoch_s=st.integers(-(2**63), 2**63 - 1),
    sent=st.lists(groups(), max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_any_chunk_is_taken_or_refused_by_field(
    batcher_id: str, sequence: int, epoch_s: int, sent: list[prediction_log_pb2.PredictionGroup]
) -> None:
    message = prediction_log_pb2.RecordPredictionsRequest(batcher_id=batcher_id, sequence=sequence, groups=sent)
    message.epoch.seconds = epoch_s
    assert refused(message) in (None, Reason.INVALID_FIELD)
    message.batcher_id, message.sequence, message.epoch.seconds = "batcher-0", 1, 1
    chunk = chunk_from_proto(message)
    assert len(chunk.groups) + chunk.refused_groups == len(sent)
    waiting, chance = Waiting(), np.random.default_rng(0)
    for group in chunk.groups:
        waiting.add(group, now_us=NOW_US, reason_name=reason_name, limits=LIMITS, chance=chance)
        for row in sampled_rows(group, sample_rate=1.0, now_us=NOW_US, reason_name=reason_name):
            assert "\0" not in row.output + row.request_id + row.user_id
    for place, summary in waiting.slices.items():
        assert abs(place.minute * 60_000_000 - NOW_US) <= 25 * 3600 * 1_000_000
        kept = Summary.decode(summary.encode())
        assert kept.rows == summary.rows
        assert 0 <= kept.seen < 2**63
        assert "\0" not in "".join(feature.name for feature in (*kept.numbers, *kept.categories))
    for prediction in waiting.predictions:
        assert "\0" not in prediction.request_id + "".join(prediction.labels.classes)
    for key, second in waiting.seconds.items():
        restored = Cell()
        add_encoded(restored, second.encode())
        assert (+restored.counts, restored.latency.count) == (+second.counts, second.count), key
    for found in reports("digits", {key.version: cell for key, cell in waiting.cells.items() if key.model == "digits"}):
        assert found.compared >= 0
    for cell in waiting.cells.values():
        shown = figures(cell, seconds=60)
        assert 0 <= shown.error_rate <= 1
