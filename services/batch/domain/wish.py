"""What a caller asks for, checked without looking at anything outside, and with defaults filled in."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TypeVar

from services.batch.domain import explanations
from services.batch.domain.job import LOCAL, Compression, FeatureJoin, Format, Input, JobSpec, Notice, Output, Version
from services.batch.domain.layout import named_columns
from services.batch.domain.notices import NO_OFFICES, NoticeWish, Offices, check_mailbox, check_notices
from services.batch.domain.patterns import has_wildcard, matches
from services.batch.domain.places import (
    checked_compression,
    format_of,
    input_format_of,
    input_path,
    named_compression,
    output_path,
    source_path,
)
from services.batch.domain.runtimes import check_reached, check_runtime
from services.common.errors import FieldViolation, MeshError, Reason, invalid, invalid_fields
from services.common.names import check_model_name, check_version
from services.common.schema import DataType

BATCH_SIZE_DEFAULT, BATCH_SIZE_MAX = 1000, 65_536
PARALLELISM_DEFAULT, PARALLELISM_MAX = 10, 256
TIMEOUT_MINUTES_DEFAULT, TIMEOUT_MINUTES_MAX = 1440, 43_200
NAME_MAX = 128
REQUEST_ID_MAX = 128
LABELS_MAX = 32
SOURCES_MAX = 16
TIMESTAMP_COLUMN_DEFAULT = "event_timestamp"
LABEL_MAX = 63
PARAMETERS_MAX = 64
COLUMNS_MAX = 1024
PREDICTION_COLUMNS = ("output", "confidence", "class", "probabilities", *explanations.COLUMNS, "model_version")
"""What the output's own columns may be called."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SourceWish:
    """A feature source as it came."""

    uri: str
    format: str = ""
    entity: str = ""
    timestamp_column: str = ""
    features: tuple[str, ...] = ()
    max_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Wish:
    """A request as it came. Zeros and empty words mean the default."""

    model: str
    version: str = ""
    input_uri: str = ""
    output_uri: str = ""
    job_name: str = ""
    batch_size: int = 0
    max_parallelism: int = 0
    timeout_minutes: int = 0
    max_failed_fraction: float | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    runtime: str = ""
    notify_on_completion: str = ""
    notices: tuple[NoticeWish, ...] = ()
    input_format: str = ""
    input_compression: str = ""
    key_column: str = ""
    feature_columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str = ""
    header: bool = True
    encoding: str = ""
    event_time_column: str = ""
    feature_sources: tuple[SourceWish, ...] = ()
    output_format: str = ""
    output_compression: str = ""
    output_columns: tuple[str, ...] = ()
    overwrite: bool = False
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A wish that makes sense. `version` is empty where the newest is to be taken."""

    model: str
    version: str
    job_name: str
    input: Input
    output: Output
    batch_size: int
    max_parallelism: int
    timeout_minutes: int
    max_failed_fraction: float
    parameters: Mapping[str, str]
    labels: Mapping[str, str]
    notify_on_completion: str = ""
    notices: tuple[Notice, ...] = ()
    runtime: str = LOCAL
    all_may_fail: bool = False

    def pinned(self, version: Version) -> JobSpec:
        """The job's specification, with its version from the first row to the last."""
        return JobSpec(
            job_name=self.job_name,
            version=version,
            input=replace(
                self.input,
                joins=tuple(resolved(join, version) for join in self.input.joins),
                named=named_columns(version, self.input, self.output.columns),
            ),
            output=self.output,
            batch_size=self.batch_size,
            max_parallelism=self.max_parallelism,
            timeout_minutes=self.timeout_minutes,
            max_failed_fraction=self.max_failed_fraction,
            all_may_fail=self.all_may_fail,
            parameters=self.parameters,
            labels=self.labels,
            notify_on_completion=self.notify_on_completion,
            notices=self.notices,
            runtime=self.runtime,
        )


class Faults:
    """Gathers wrong fields, so that the caller mends them in one round."""

    def __init__(self) -> None:
        self._violations: list[FieldViolation] = []

    def take(self, read: Callable[[], T], instead: T) -> T:
        """What `read` returns; `instead` where a field is wrong."""
        try:
            return read()
        except MeshError as error:
            if error.reason is not Reason.INVALID_FIELD:
                raise
            self._violations += error.violations
            return instead

    def done(self) -> None:
        """Raises INVALID_FIELD with all that was gathered."""
        if self._violations:
            raise invalid_fields(self._violations)


def draft(wish: Wish, *, writes: bool = True, offices: Offices = NO_OFFICES, clusters: Collection[str] = ()) -> Draft:
    """The wish, checked; of one that `writes` nothing the output is left empty. People are told by way of `offices`,
    and work may run in `clusters`. Raises INVALID_FIELD naming every wrong field, NOT_IMPLEMENTED for what is not
    built."""
    faults = Faults()
    model = faults.take(lambda: check_model_name(wish.model), "")
    version = faults.take(lambda: check_version(wish.version, "model_version") if wish.version else "", "")
    read = faults.take(lambda: read_input(wish), None)
    write = faults.take(lambda: _output(wish) if writes else _shown_output(wish), None)
    numbers = (
        faults.take(lambda: check_batch_size(wish.batch_size, explain=wish.explain), 0),
        faults.take(lambda: check_parallelism(wish.max_parallelism), 0),
        faults.take(lambda: check_timeout(wish.timeout_minutes), 0),
    )
    fraction = faults.take(lambda: check_fraction(wish.max_failed_fraction), 1.0)
    parameters = faults.take(lambda: check_parameters(wish.parameters), wish.parameters)
    labels = faults.take(lambda: check_labels(wish.labels), wish.labels)
    name = faults.take(lambda: check_job_name(wish.job_name), "")
    runtime = faults.take(lambda: check_runtime(wish.runtime, clusters), LOCAL)
    mailbox = faults.take(lambda: check_mailbox(wish.notify_on_completion, offices), "")
    notices: tuple[Notice, ...] = faults.take(lambda: check_notices(wish.notices, offices), ())
    if writes and read is not None and write is not None:
        faults.take(lambda: _check_apart(read, write), None)
        if runtime != LOCAL:
            faults.take(lambda: check_reached(runtime, read, write), None)
    faults.done()
    assert read is not None
    assert write is not None
    name = name or f"{model}: {PurePosixPath(read.path).name}"[:NAME_MAX]
    made = Draft(model, version, name, read, write, *numbers, fraction, parameters, labels, mailbox, notices, runtime)
    return replace(made, all_may_fail=may_all_fail(wish.max_failed_fraction))


def read_input(wish: Wish) -> Input:
    """Where the rows are and how they are read."""
    path = input_path(wish.input_uri, "input_uri")
    kind = input_format_of(path, wish.input_format, "input.format", "input_uri")
    compression = checked_compression(wish.input_compression, kind, "input.compression")
    delimiter = wish.delimiter or ","
    if len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii():
        raise invalid("input.delimiter", wish.delimiter, "one ASCII character other than a quote or a line end")
    if (wish.encoding or "utf-8").lower() not in ("utf-8", "utf8"):
        raise invalid("input.encoding", wish.encoding, "utf-8")
    return Input(
        wish.input_uri,
        path,
        kind,
        wish.key_column,
        dict(wish.feature_columns),
        delimiter,
        header=wish.header,
        event_time_column=wish.event_time_column,
        joins=_joins(wish),
        compression=compression,
    )


def _joins(wish: Wish) -> tuple[FeatureJoin, ...]:
    field = "input.feature_sources"
    if bool(wish.feature_sources) != bool(wish.event_time_column):
        raise invalid(
            "input.event_time_column", wish.event_time_column, f"a column with {field}, and none without them"
        )
    if len(wish.feature_sources) > SOURCES_MAX:
        raise invalid(field, f"{len(wish.feature_sources)} sources", f"at most {SOURCES_MAX}")
    return tuple(_join(source, f"{field}[{place}]") for place, source in enumerate(wish.feature_sources))


def _join(source: SourceWish, field: str) -> FeatureJoin:
    path = source_path(source.uri, f"{field}.uri")
    kind = format_of(path, source.format, f"{field}.format", f"{field}.uri")
    if kind is Format.JSONL:
        raise invalid(f"{field}.format", kind, "parquet or csv")
    if not source.entity:
        raise invalid(f"{field}.entity", source.entity, "a column of the source and of the input")
    if not (math.isfinite(source.max_age_s) and source.max_age_s >= 0):
        raise invalid(f"{field}.max_age_s", source.max_age_s, "seconds, 0 or more")
    return FeatureJoin(
        uri=source.uri,
        path=path,
        format=kind,
        entity=source.entity,
        timestamp_column=source.timestamp_column or TIMESTAMP_COLUMN_DEFAULT,
        features=source.features,
        asked_age_s=source.max_age_s,
    )


def resolved(join: FeatureJoin, version: Version) -> FeatureJoin:
    """The join with all that the version says of its features. Raises INVALID_FIELD where one is no input of it."""
    inputs = version.schema.inputs
    names = tuple(spec.name for spec in inputs)
    for feature in join.features:
        if feature not in names:
            raise invalid("input.feature_sources.features", feature, f"inputs of the version: {', '.join(names)}")
    ages = {feature: view.max_age_s for view in version.feature_views for feature in view.features if view.max_age_s}
    defaults = {name: value for view in version.feature_views for name, value in view.defaults.items()}
    return replace(
        join,
        inputs=names,
        texts=tuple(spec.name for spec in inputs if spec.data_type is DataType.BYTES),
        optional=tuple(spec.name for spec in inputs if spec.optional),
        max_age_s=dict.fromkeys(names, join.asked_age_s) if join.asked_age_s else ages,
        defaults=defaults,
    )


def _output(wish: Wish) -> Output:
    path = output_path(wish.output_uri, "output_uri")
    kind = format_of(path, wish.output_format, "output.format", "output_uri")
    compression = checked_compression(wish.output_compression, kind, "output.compression")
    if compression is None and kind is not Format.PARQUET:
        compression = named_compression(path)
    columns = check_columns(wish.output_columns)
    return Output(wish.output_uri, path, kind, wish.overwrite, compression or Compression.NONE, columns, wish.explain)


def _shown_output(wish: Wish) -> Output:
    """The output of one that only looks."""
    return Output("", "", Format.JSONL, columns=check_columns(wish.output_columns), explain=wish.explain)


def check_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Columns to copy, as far as they can be judged without the input."""
    field = "output.columns"
    if len(columns) > COLUMNS_MAX:
        raise invalid(field, f"{len(columns)} columns", f"at most {COLUMNS_MAX}")
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise invalid(field, doubled[0], "each column once")
    clashing = sorted(set(columns) & set(PREDICTION_COLUMNS))
    if clashing:
        raise invalid(field, clashing[0], f"other names than the prediction's own: {', '.join(PREDICTION_COLUMNS)}")
    return columns


def _check_apart(read: Input, write: Output) -> None:
    for path in (write.path, write.errors_path):
        if path == read.path:
            raise invalid("output_uri", write.uri, "another file than the input")
        if read.path.endswith("/") and path.startswith(read.path):
            raise invalid("output_uri", write.uri, "a place outside of the folder that is the input")
        if has_wildcard(read.path) and matches(path, read.path):
            raise invalid("output_uri", write.uri, "a name that the pattern of the input does not match")


def check_batch_size(value: int, *, explain: bool) -> int:
    """Rows in one request. Of those that are explained the batcher takes few."""
    if explain:
        if value > explanations.ROWS_MAX:
            raise invalid("batch_size", value, f"1 to {explanations.ROWS_MAX} with output.explain; 0 means the most")
        return value or explanations.ROWS_MAX
    return _ranged("batch_size", value, BATCH_SIZE_MAX, BATCH_SIZE_DEFAULT)


def check_parallelism(value: int) -> int:
    """Requests in flight at once."""
    return _ranged("max_parallelism", value, PARALLELISM_MAX, PARALLELISM_DEFAULT)


def check_timeout(value: int) -> int:
    """Minutes after which a running job fails."""
    return _ranged("timeout_minutes", value, TIMEOUT_MINUTES_MAX, TIMEOUT_MINUTES_DEFAULT)


def check_fraction(value: float | None) -> float:
    """The share of rows that may fail."""
    if value is None:
        return 1.0
    if not 0 <= value <= 1:
        raise invalid("max_failed_fraction", value, "0 to 1")
    return value


def may_all_fail(value: float | None) -> bool:
    """Whether the share of rows that may fail is said to be all of them; by default it is all but one."""
    return value == 1.0


def check_job_name(value: str) -> str:
    """A name for people."""
    if len(value) > NAME_MAX or not value.isprintable():
        raise invalid("job_name", value, f"at most {NAME_MAX} printable characters")
    return value


def check_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Free labels."""
    if len(labels) > LABELS_MAX:
        raise invalid("labels", f"{len(labels)} labels", f"at most {LABELS_MAX}")
    for key, value in labels.items():
        if not key or len(key) > LABEL_MAX or len(value) > LABEL_MAX or "\0" in key + value or "=" in key:
            allowed = f"1 to {LABEL_MAX} characters without '=' for a key, at most as many for a value"
            raise invalid(f"labels[{key!r}]", value, allowed)
    return dict(labels)


def check_parameters(parameters: Mapping[str, str]) -> Mapping[str, str]:
    """What is handed to the model."""
    if len(parameters) > PARAMETERS_MAX or any("\0" in key + value for key, value in parameters.items()):
        raise invalid("parameters", f"{len(parameters)} parameters", f"at most {PARAMETERS_MAX}, of text without NUL")
    return dict(parameters)


def check_request_id(value: str) -> str:
    """What makes a create safe to repeat."""
    if len(value) > REQUEST_ID_MAX or not value.isprintable():
        raise invalid("request_id", value, f"at most {REQUEST_ID_MAX} printable characters")
    return value


def _ranged(name: str, value: int, most: int, default: int) -> int:
    if not 0 <= value <= most:
        raise invalid(name, value, f"1 to {most}; 0 means {default}")
    return value or default
