"""Between protobuf and the prediction log."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import orjson
from infermesh.common.v1 import error_reason_pb2
from infermesh.monitor.v1 import prediction_log_pb2

from services.common.errors import MeshError, invalid
from services.common.names import check_deployment_name, check_model_name, check_version
from services.monitor.convert.log_samples import sampled_from_proto
from services.monitor.convert.moments import moment_from_proto
from services.monitor.domain.figures import CONFIDENCES
from services.monitor.domain.records import Chunk, Comparison, Group, Labels, ShadowExample, StreamKey
from services.monitor.domain.shadows import EXAMPLES_MAX

_BATCHER_ID_MAX = 128
_TEXT_MAX = 1024
_OUTPUT_MAX = 8192
_REASONS_MAX = 100
_GPUS_MAX = 10_000.0
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REASON_PREFIX = "ERROR_REASON_"
_REASONS = {
    value.number: value.name.removeprefix(_REASON_PREFIX)
    for value in error_reason_pb2.DESCRIPTOR.enum_types_by_name["ErrorReason"].values
}

Ints = npt.NDArray[np.int64]


def reason_name(number: int) -> str:
    """The name of an ErrorReason. A number from a newer mesh is shown as itself."""
    if number == 0:
        return "UNKNOWN"
    return _REASONS.get(number, f"REASON_{number}")


def chunk_from_proto(message: prediction_log_pb2.RecordPredictionsRequest) -> Chunk:
    """The chunk that a message states. Raises INVALID_FIELD where it cannot be placed in its stream; groups that are
    not understood are left out and counted, because one bad group must not stop a log for good.
    """
    if not 1 <= len(message.batcher_id) <= _BATCHER_ID_MAX or "\0" in message.batcher_id:
        raise invalid("batcher_id", message.batcher_id, f"1 to {_BATCHER_ID_MAX} characters")
    if message.sequence < 1:
        raise invalid("sequence", message.sequence, "1 for the first chunk, then one more each")
    epoch = moment_from_proto(message.epoch, given=message.HasField("epoch"), field="epoch")
    if epoch is None:
        raise invalid("epoch", None, "the moment at which the batcher started")
    groups = []
    for group in message.groups:
        try:
            groups.append(_group(group))
        except MeshError:
            continue
    return Chunk(
        stream=StreamKey(message.batcher_id, (epoch - _UNIX_EPOCH) // timedelta(microseconds=1)),
        sequence=message.sequence,
        # The database's integers are signed.
        dropped_total=min(message.dropped_total, 2**63 - 1),
        groups=groups,
        refused_groups=len(message.groups) - len(groups),
    )


def _group(group: prediction_log_pb2.PredictionGroup) -> Group:
    size = len(group.request_times_us)

    def numbers(column: Sequence[int], field: str, default: int = 0) -> Ints:
        _check_length(column, size, field)
        return np.array(column, dtype=np.int64) if column else np.full(size, default, dtype=np.int64)

    def texts(column: Sequence[str], field: str) -> list[str]:
        _check_length(column, size, field)
        return [_text(value) for value in column]

    for field, digests in (("input_hashes", group.request_input_hashes), ("trace_ids", group.request_trace_ids)):
        _check_length(digests, size, field)
    return Group(
        model=check_model_name(group.model_name),
        version=check_version(group.version) if group.version else "",
        deployment=check_deployment_name(group.deployment_name) if group.deployment_name else "",
        times_us=np.array(group.request_times_us, dtype=np.int64),
        latencies_us=numbers(group.request_latencies_us, "latencies_us"),
        rows=numbers(group.request_rows, "rows", 1),
        codes=numbers(group.request_codes, "codes"),
        reasons=numbers(group.request_reasons, "reasons"),
        kinds=numbers(group.request_kinds, "kinds"),
        request_ids=texts(group.request_ids, "ids"),
        users=texts(group.request_users, "users"),
        teams=texts(group.request_teams, "teams"),
        input_hashes=list(group.request_input_hashes),
        outputs=[_json(value) for value in group.request_outputs],
        trace_ids=list(group.request_trace_ids),
        by_class={_text(name): count for name, count in group.predictions_by_class.items()},
        compute_us=numbers(group.request_compute_us, "compute_us"),
        gpus=_gpus(group.gpus),
        labels=_labels(group, size),
        comparisons=[_comparison(compared) for compared in group.shadow_comparisons],
        sampled=sampled_from_proto(group.sampled_rows) if group.HasField("sampled_rows") else None,
        by_confidence={name: group.predictions_by_confidence.get(name, 0) for name in CONFIDENCES},
    )


def _gpus(value: float) -> float:
    if not 0 <= value <= _GPUS_MAX:  # NaN is in no range
        raise invalid("gpus", value, f"0 to {_GPUS_MAX:g}")
    return value


def _labels(group: prediction_log_pb2.PredictionGroup, size: int) -> list[Labels]:
    _check_length(group.request_labels, size, "labels")
    return [Labels([_text(name) for name in sent.classes], list(sent.values)) for sent in group.request_labels]


def _comparison(compared: prediction_log_pb2.ShadowComparisons) -> Comparison:
    reasons = sorted(compared.failed_by_reason.items(), key=lambda item: -item[1])[:_REASONS_MAX]
    return Comparison(
        primary_version=check_version(compared.primary_version, "primary_version"),
        compared_count=compared.compared_count,
        disagreed_count=compared.disagreed_count,
        dropped_count=compared.dropped_count,
        failed_by_reason={_text(reason): count for reason, count in reasons},
        examples=[
            ShadowExample(
                request_id=_text(example.request_id),
                time_us=example.time_us,
                row=example.row,
                primary_output=_text(example.primary_output, _OUTPUT_MAX),
                shadow_output=_text(example.shadow_output, _OUTPUT_MAX),
                difference=example.difference,
            )
            for example in compared.examples[:EXAMPLES_MAX]
        ],
    )


def _check_length(column: Sequence[object], size: int, field: str) -> None:
    if len(column) not in (0, size):
        raise invalid(f"request_{field}", f"{len(column)} values", f"none or one for each of the {size} requests")


def _text(value: str, length_max: int = _TEXT_MAX) -> str:
    """`value` as the database takes it: without NUL and of bounded length."""
    return value[:length_max].replace("\0", "\ufffd")


def _json(value: str) -> str:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return orjson.dumps(_text(value)).decode() if value else ""
    return value
