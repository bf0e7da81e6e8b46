"""Where a job's work may run: on this machine, or in a cluster, whose pods reach buckets and none of its disks."""

from collections.abc import Collection

from services.batch.domain.job import LOCAL, Input, Output
from services.batch.domain.places import in_bucket
from services.common.errors import FieldViolation, invalid, invalid_fields, shown

_BUCKETS = "s3://bucket/key or gs://bucket/key"


def check_runtime(value: str, clusters: Collection[str]) -> str:
    """Where the work runs. Raises INVALID_FIELD."""
    if value in ("", LOCAL):
        return LOCAL
    if not clusters:
        raise invalid("runtime", value, f"{LOCAL!r}; clusters are named in INFERMESH_BATCH_CLUSTERS, which has none")
    if value not in clusters:
        raise invalid("runtime", value, "one of " + ", ".join((LOCAL, *sorted(clusters))))
    return value


def check_reached(runtime: str, read: Input, write: Output) -> None:
    """Raises INVALID_FIELD, naming each place that pods of a cluster do not reach."""
    allowed = f"{_BUCKETS}, since the pods of runtime {runtime!r} do not reach this machine's disks"
    places = (("input_uri", read.uri, read.path), ("output_uri", write.uri, write.path))
    joins = [(f"input.feature_sources[{number}].uri", join.uri, join.path) for number, join in enumerate(read.joins)]
    wrong = [
        FieldViolation(field, f"is {shown(uri)}; allowed: {allowed}")
        for field, uri, path in (*places, *joins)
        if not in_bucket(path)
    ]
    if wrong:
        raise invalid_fields(wrong)
