"""Inputs on a local file system, by format."""

from collections.abc import Callable, Mapping
from pathlib import Path

from services.batch.adapters.sources.csv import CsvSource
from services.batch.adapters.sources.joined import JoinedSource
from services.batch.adapters.sources.jsonl import JsonlSource
from services.batch.adapters.sources.parquet import ParquetSource
from services.batch.adapters.sources.problems import unreadable
from services.batch.domain.job import Format, Input
from services.batch.ports import Source

_SOURCES: Mapping[Format, Callable[[Input], Source]] = {
    Format.PARQUET: ParquetSource,
    Format.CSV: CsvSource,
    Format.JSONL: JsonlSource,
}


class LocalSources:
    """A `Sources`."""

    def open(self, wish: Input) -> Source:
        """The input, which is there and not empty."""
        path = Path(wish.path)
        try:
            size = path.stat().st_size
            if not path.is_file():
                raise unreadable(wish, "it is no file; name one file, since folders are not read yet")
            if size == 0:
                raise unreadable(wish, "it is empty")
            with path.open("rb"):
                pass
        except FileNotFoundError:
            raise unreadable(wish, "there is no such file on the machine of the batch service") from None
        except OSError as error:
            raise unreadable(wish, f"{error.strerror}") from None
        source = _SOURCES[wish.format](wish)
        return JoinedSource(source, wish) if wish.joins else source
