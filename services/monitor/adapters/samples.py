"""Samples of training data: Parquet, CSV or JSON Lines, from buckets or a folder of this host.

Read in batches, up to a bound of rows. A list is a vector, each of its elements a feature. Whole numbers are summed up
as numbers and as categories: whether they are classes only the version's traffic says.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import unquote, urlsplit

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from obstore.exceptions import BaseError

from services.common.errors import MeshError, Reason, invalid
from services.common.objects import SCHEMES, bucket_of, open_bucket
from services.monitor.domain.drift.rows import CATEGORY_LENGTH_MAX, FEATURES_MAX, FeatureKey, Floats, Rows
from services.monitor.domain.drift.summary import Summary

ROWS_MAX = 1_000_000
_BATCH_ROWS = 8192
_FORMATS = (".parquet", ".csv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class FileSamples:
    """A `SampleSource`. `folder`: where file:// may read; None: nowhere."""

    folder: Path | None = None

    def check(self, uri: str) -> None:
        """Raises INVALID_FIELD where the URI can name no sample."""
        scheme = urlsplit(uri).scheme
        if not uri.lower().endswith(_FORMATS):
            raise invalid("baseline.sample_uri", uri, f"a file that ends in {', '.join(_FORMATS)}")
        if scheme in SCHEMES:
            try:
                bucket_of(uri)
            except ValueError as error:
                raise invalid("baseline.sample_uri", uri, f"s3://bucket/key or gs://bucket/key ({error})") from None
        elif scheme == "file":
            self._path(uri)
        else:
            raise invalid("baseline.sample_uri", uri, "an s3://, gs:// or file:// URI")

    async def read(self, uri: str) -> Summary:
        """The sample summed up, off the loop."""
        self.check(uri)
        return await asyncio.to_thread(self._read, uri)

    def _path(self, uri: str) -> Path:
        folder = self.folder
        if folder is None:
            raise invalid(
                "baseline.sample_uri", uri, "s3:// or gs://; files of the host only where the monitor has a sample_dir"
            )
        path = Path(unquote(urlsplit(uri).path)).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise invalid("baseline.sample_uri", uri, f"a file below the monitor's sample_dir, {folder}")
        return path

    def _read(self, uri: str) -> Summary:
        summary = Summary()
        chance = np.random.default_rng(0)
        try:
            with self._open(uri) as file:
                for batch in _batches(uri, file):
                    summary.add(_rows(batch), chance)
                    if summary.rows >= ROWS_MAX:
                        break
        except (OSError, pa.ArrowException, BaseError) as error:
            first_line = (str(error) or type(error).__name__).splitlines()[0]
            raise MeshError(Reason.INPUT_UNREADABLE, f"{uri} cannot be read: {first_line[:300]}") from error
        return summary

    def _open(self, uri: str) -> BinaryIO:
        if urlsplit(uri).scheme == "file":
            return self._path(uri).open("rb")
        scheme, bucket, key = bucket_of(uri)
        # A reader has all that arrow asks of a file.
        return cast("BinaryIO", pa.PythonFile(_Reader(obstore.open_reader(open_bucket(scheme, bucket), key)), mode="r"))


class _Reader:
    """An object as the file that arrow takes; the library's reader knows neither bytes nor whether it is closed."""

    def __init__(self, reader: "obstore.ReadableFile") -> None:
        self._reader = reader
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes."""
        return bytes(self._reader.read(None if size < 0 else size))

    def seek(self, offset: int, whence: int = 0) -> int:
        """Goes to a place."""
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._reader.tell()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def writable(self) -> bool:
        """It is not."""
        return False

    def close(self) -> None:
        """Lets go of it."""
        self.closed = True
        self._reader.close()


def _batches(uri: str, file: BinaryIO) -> Iterator[pa.RecordBatch]:
    name = uri.lower()
    if name.endswith(".parquet"):
        yield from pq.ParquetFile(file).iter_batches(batch_size=_BATCH_ROWS)
    elif name.endswith(".csv"):
        yield from pa_csv.open_csv(file)
    else:
        yield from pa_json.open_json(file)


def _rows(batch: pa.RecordBatch) -> Rows:
    numbers: dict[FeatureKey, Floats] = {}
    categories: dict[FeatureKey, Sequence[str | None]] = {}
    for name, column in _flat(batch):
        if len(numbers) + len(categories) >= FEATURES_MAX:
            break
        kind, key = column.type, FeatureKey(name)
        if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            numbers[key] = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _is_text(kind):
            categories[key] = [None if one is None else _text(one) for one in column.to_pylist()]
    return Rows(batch.num_rows, numbers=numbers, categories=categories)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _flat(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    """Columns by name, those of lists element by element."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        kind = column.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
            yield name, column
            continue
        lengths = pc.max(pc.list_value_length(column)).as_py() or 0
        if lengths > FEATURES_MAX:
            continue
        table = column.to_pylist()
        for place in range(lengths):
            values = [row[place] if row is not None and place < len(row) else None for row in table]
            yield f"{name}[{place}]", pa.array(values, type=kind.value_type)


def _text(value: object) -> str:
    return str(value)[:CATEGORY_LENGTH_MAX]
