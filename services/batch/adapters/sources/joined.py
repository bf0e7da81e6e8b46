"""An input whose rows get features out of files that say what held when."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from services.batch.adapters.sources.problems import fingerprint_of
from services.batch.domain.chunks import Chunk, Plan
from services.batch.domain.columns import ids_of
from services.batch.domain.feature_join import History, joined
from services.batch.domain.job import FeatureJoin, Format, Input
from services.batch.domain.moments import moments_of
from services.batch.domain.point_in_time import Timeline
from services.batch.domain.rows import RowBlock
from services.batch.ports import Source
from services.common.errors import MeshError, Reason, shown

BYTES_MAX = 4 * 1024**3
"""Of the columns of all sources of one input, in memory."""


class JoinedSource:
    """A `Source` over another one. The sources are read when the first block is, and kept until the last."""

    def __init__(self, rows: Source, wish: Input) -> None:
        self._rows = rows
        self._wish = wish

    def fingerprint(self) -> str:
        """Differs where the input or a source was changed."""
        return "|".join([self._rows.fingerprint(), *(fingerprint_of(join.path) for join in self._wish.joins)])

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
            names = _names(join)
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

    def _histories(self) -> Sequence[History]:
        left = BYTES_MAX
        histories: list[History] = []
        for join, features in zip(self._wish.joins, self._features, strict=True):
            table = _table(join, features)
            left -= table.nbytes
            if left < 0:
                raise _unreadable(join, f"the sources have more than {BYTES_MAX} bytes; leave out columns, or old rows")
            moments, wrong = moments_of(_whole(table, join.timestamp_column), join.timestamp_column)
            for place, message in wrong.items():
                raise _unreadable(join, f"in row {place}, counted from 0, {message}")
            timeline = Timeline(ids_of(_whole(table, join.entity)), moments)
            histories.append(History(join, timeline, {name: _whole(table, name) for name in features}))
        return histories


def _names(join: FeatureJoin) -> list[str]:
    try:
        if join.format is Format.PARQUET:
            return list(pq.read_schema(join.path).names)
        with pa_csv.open_csv(join.path) as reader:
            return list(reader.schema.names)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(join, str(error)) from None


def _table(join: FeatureJoin, features: Sequence[str]) -> pa.Table:
    columns = list(dict.fromkeys([join.entity, join.timestamp_column, *features]))
    try:
        if join.format is Format.PARQUET:
            return pq.read_table(join.path, columns=columns)
        texts = {join.entity, join.timestamp_column, *(name for name in features if name in join.texts)}
        options = pa_csv.ConvertOptions(
            include_columns=columns, column_types=dict.fromkeys(texts, pa.string()), strings_can_be_null=False
        )
        return pa_csv.read_csv(join.path, convert_options=options)
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
