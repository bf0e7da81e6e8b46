"""Inputs: files, folders and patterns, on this machine and in buckets."""

from services.batch.adapters.objects import Buckets
from services.batch.adapters.sources.files import FilesSource
from services.batch.adapters.sources.joined import JoinedSource
from services.batch.adapters.sources.listing import find
from services.batch.domain.job import Input
from services.batch.ports_places import Source


class FileSources:
    """A `Sources`."""

    def __init__(self, buckets: Buckets | None = None) -> None:
        self._buckets = buckets or Buckets()

    def open(self, wish: Input) -> Source:
        """The input, which is there and not empty."""
        source = FilesSource(wish, find(wish, self._buckets), lambda: find(wish, self._buckets))
        return JoinedSource(source, wish, self._buckets) if wish.joins else source
