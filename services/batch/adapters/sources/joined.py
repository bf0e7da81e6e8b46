"""An input whose rows get features out of files that say what held when."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from services.batch.adapters.objects import Buckets
from services.batch.adapters.sources.blobs import Blob
from services.batch.adapters.sources.listing import find
from services.batch.domain.chunks import Chunk, Plan
from services.batch.domain.columns import ids_of
from services.batch.domain.feature_join import History, joined
from services.batch.domain.job import FeatureJoin, Format, Input
from services.batch.domain.moments import moments_of
from services.batch.domain.point_in_time import Timeline
from services.batch.domain.rows import RowBlock
from services.batch.ports_places import Source
from services.common.errors import MeshError, Reason, shown

BYTES_MAX = 4 * 1024**3
"""Of the columns of all sources of one input, in memory."""


class JoinedSource:
    """A `Source` over another one. The sources are read when the first block is, and kept until the last."""

    def __init__(self, rows: Source, wish: Input, buckets: Buckets) -> None:
        self._rows = rows
        self._wish = wish
        self._buckets = buckets

    def fingerprint(self) -> str:
        """Differs where the input or a source was changed."""
        return "|".join([self._rows.fingerprint(), *(self._found(join).mark for join in self._wish.joins)])

    def columns(self) -> tuple[str, ...]:
        """The input's, and the features. Raises INPUT_UNREADABLE naming what a source or the input lacks."""
        own = self._own
        needed = dict.fromkeys([self._wish.event_time_column, *(join.entity for join in self._wish.joins)])
        for column in needed:
            if column not in own:
                raise MeshError(
                    Reason.INPUT_UNREADABLE,
                    f"the input has no column {column!r}, which input.feature_sources need; it has "
                    f"{shown(list(own), length_max=400)}",
                    metadata={"missing_columns": column},
                )
        return (*own, *(feature for features in self._features for feature in features))

    def types(self) -> Mapping[str, pa.DataType]:
        """The input's. What the sources hold is judged when it is joined."""
        return self._rows.types()

    def cut(self, rows: int, *, bytes_max: int, key_column: str, chunks_max: int = 0) -> Plan:
        """As the input is cut."""
        plan = self._rows.cut(rows, bytes_max=bytes_max, key_column=key_column, chunks_max=chunks_max)
        return replace(plan, fingerprint=self.fingerprint(), columns=self.columns())

    def read(self, chunks: Sequence[Chunk], columns: Sequence[str], plan: Plan) -> Iterator[RowBlock]:
        """The input's blocks with the features that held at each row's moment."""
        histories = self._histories()
        own = set(self._own)
        needed = (self._wish.event_time_column, *(join.entity for join in self._wish.joins))
        wanted = tuple(dict.fromkeys([*(name for name in columns if name in own), *needed]))
        for block in self._rows.read(chunks, wanted, replace(plan, columns=self._own)):
            yield joined(block, histories, event_time_column=self._wish.event_time_column)

    @cached_property
    def _own(self) -> tuple[str, ...]:
        return self._rows.columns()

    @cached_property
    def _features(self) -> Sequence[tuple[str, ...]]:
        """The features that each source gives."""
        taken = set(self._own)
        given: list[tuple[str, ...]] = []
        for join in self._wish.joins:
            names = _names(join, self._found(join))
            features = join.features or tuple(name for name in join.inputs if name in names and name not in taken)
            missing = [name for name in (join.entity, join.timestamp_column, *features) if name not in names]
            if missing or not features:
                problem = f"it has no column {missing[0]!r}" if missing else "none of its columns is a feature"
                raise _unreadable(join, f"{problem}; it has {shown(names, length_max=400)}")
            doubled = [name for name in features if name in taken]
            if doubled:
                raise _unreadable(join, f"feature {doubled[0]!r} is there already, in the input or another source")
            taken.update(features)
            given.append(features)
        return given

    def _found(self, join: FeatureJoin) -> Blob:
        """The file of a source, as it is now."""
        with _telling(join):
            found = find(Input(join.uri, join.path, join.format), self._buckets)
        if found.many:
            raise _unreadable(join, "it is a folder; name one file")
        return found.blobs[0]

    def _histories(self) -> Sequence[History]:
        left = BYTES_MAX
        histories: list[History] = []
        for join, features in zip(self._wish.joins, self._features, strict=True):
            table = _table(join, self._found(join), features)
            left -= table.nbytes
            if left < 0:
                raise _unreadable(join, f"the sources have more than {BYTES_MAX} bytes; leave out columns, or old rows")
            moments, wrong = moments_of(_whole(table, join.timestamp_column), join.timestamp_column)
            for place, message in wrong.items():
                raise _unreadable(join, f"in row {place}, counted from 0, {message}")
            timeline = Timeline(ids_of(_whole(table, join.entity)), moments)
            histories.append(History(join, timeline, {name: _whole(table, name) for name in features}))
        return histories


def _names(join: FeatureJoin, blob: Blob) -> list[str]:
    with _telling(join):
        if join.format is Format.PARQUET:
            with blob.open() as file:
                return list(pq.read_schema(file).names)
        with blob.text() as file, pa_csv.open_csv(file) as reader:
            return list(reader.schema.names)


def _table(join: FeatureJoin, blob: Blob, features: Sequence[str]) -> pa.Table:
    columns = list(dict.fromkeys([join.entity, join.timestamp_column, *features]))
    with _telling(join):
        if join.format is Format.PARQUET:
            with blob.open() as file:
                return pq.read_table(file, columns=columns)
        texts = {join.entity, join.timestamp_column, *(name for name in features if name in join.texts)}
        options = pa_csv.ConvertOptions(
            include_columns=columns, column_types=dict.fromkeys(texts, pa.string()), strings_can_be_null=False
        )
        with blob.text() as file:
            return pa_csv.read_csv(file, convert_options=options)


@contextmanager
def _telling(join: FeatureJoin) -> Iterator[None]:
    """Says of which source a problem is: the code that reads it is that of inputs."""
    try:
        yield
    except MeshError as error:
        words = error.message.removeprefix("input_uri ")
        raise MeshError(
            error.reason,
            f"feature source {words}",
            metadata={"source_uri": join.uri},
            retry_after_s=error.retry_after_s,
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(join, str(error)) from None


def _whole(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _unreadable(join: FeatureJoin, why: str) -> MeshError:
    return MeshError(
        Reason.INPUT_UNREADABLE, f"feature source {join.uri!r} cannot be read: {why}", metadata={"source_uri": join.uri}
    )
