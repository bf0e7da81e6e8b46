"""Which chunks of a job a worker is given next.

Reading on is cheap and jumping is not: within a row group of a Parquet file every row before the wanted one is decoded.
So each worker goes on where it is as long as that is free, and whoever has to jump, jumps into the middle of the
longest stretch that nobody does, or to its beginning where nobody is on the way there.

A packed file cannot be entered in its middle at all: all before it is unpacked first. So it has one reader while there
is anything else to do; a second one comes only where what it takes over is more than what it unpacks for nothing.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence

from services.batch.domain.chunks import PlannedFile
from services.batch.domain.job import Compression, Format, Input
from services.batch.domain.places import named_compression, named_format

Span = tuple[int, int]
"""The first chunk and the last."""

_UNPACKING = 0.1
"""What unpacking a chunk takes, of what doing it takes: text is unpacked at some hundred MB a second."""


def packed_spans(planned: Sequence[PlannedFile], chunks: int, read: Input) -> Sequence[Span]:
    """The chunks of each packed file, in order, of an input that was cut into so many."""
    files = [(file.path, file.first_chunk) for file in planned] or [(read.path, 0)]
    ends = [*(first for _, first in files[1:]), chunks]
    return [(first, end - 1) for (path, first), end in zip(files, ends, strict=True) if _is_packed(path, read)]


def choose(
    free: Sequence[int],
    taken: Collection[int],
    *,
    after: int | None,
    limit: int,
    packed: Sequence[Span] = (),
) -> Sequence[int]:
    """At most `limit` chunks, one following the other, out of those that are `free`, in ascending order. None where
    there are none, or where all are better left to those who read their packed files. `taken` are done by others now;
    `after` is the last one that the worker was given."""
    if not free or limit < 1:
        return ()
    known = set(free)
    if after is not None and after + 1 in known:
        return _from(after + 1, known, limit)
    files = _Packed(packed, taken)
    for first, last in sorted(_stretches(free), key=lambda stretch: (stretch[0] - stretch[1], stretch[0])):
        met = first - 1 in taken
        entry = files.entry(first, last, first + (last - first + 1) // 2 if met else first)
        if entry is not None:
            return _from(entry, known, limit, files)
    entry = files.second(_stretches(free))
    return () if entry is None else _from(entry, known, limit, files)


def share(max_parallelism: int, owners: int) -> int:
    """How many requests of a job each of its workers may have in flight."""
    return max(1, max_parallelism // max(1, owners))


class _Packed:
    """Packed files, of which somebody reads some."""

    def __init__(self, spans: Sequence[Span], taken: Collection[int]) -> None:
        self._spans = spans
        self._taken = taken
        self._firsts = [first for first, _ in spans]
        self._read = {span for index in taken if (span := self._of(index)) is not None}

    def is_read(self, index: int) -> bool:
        """Whether a chunk lies in a packed file that somebody reads."""
        return self._of(index) in self._read

    def entry(self, first: int, last: int, wanted: int) -> int | None:
        """Where a stretch that is free is entered, as near to `wanted` as may be: packed files that nobody reads where
        they begin to be free. None where all of it lies in such as are read."""
        entries = [
            begin if self._of(begin) is not None else min(max(wanted, begin), end)
            for begin, end in self._pieces(first, last)
            if not self.is_read(begin)
        ]
        return min(entries, key=lambda at: (abs(at - wanted), at), default=None)

    def second(self, stretches: Iterable[Span]) -> int | None:
        """Where a packed file is entered that somebody reads, so that the most is gained. None: nowhere is any."""
        best, most = None, 0
        for begin, end in (piece for stretch in stretches for piece in self._pieces(*stretch)):
            entry = self._shared(begin, end) if begin - 1 in self._taken else begin
            gain = end + 1 - entry
            if gain > max(most, self._unpacked(entry)):
                best, most = entry, gain
        return best

    def _of(self, index: int) -> Span | None:
        place = bisect_right(self._firsts, index) - 1
        return self._spans[place] if place >= 0 and index <= self._spans[place][1] else None

    def _pieces(self, first: int, last: int) -> Iterator[Span]:
        """A stretch, cut where packed files begin and end."""
        while first <= last:
            span, following = self._of(first), bisect_right(self._firsts, first)
            bound = self._firsts[following] - 1 if following < len(self._firsts) else last
            end = min(last, span[1] if span is not None else bound)
            yield first, end
            first = end + 1

    def _shared(self, begin: int, end: int) -> int:
        """Where a second reader enters so that both are done at one time: the first does all from `begin` to there
        while the second unpacks what comes before, and does the rest."""
        span = self._of(begin)
        start = span[0] if span is not None else begin
        return round((end + 1 + begin - _UNPACKING * start) / (2 - _UNPACKING))

    def _unpacked(self, entry: int) -> float:
        """What it takes to get to a chunk, in chunks."""
        span = self._of(entry)
        return _UNPACKING * (entry - span[0]) if span is not None else 0.0


def _from(first: int, known: set[int], limit: int, files: _Packed | None = None) -> Sequence[int]:
    chosen = [first]
    begun = files is not None and files.is_read(first)
    while len(chosen) < limit and chosen[-1] + 1 in known:
        if files is not None and not begun and files.is_read(chosen[-1] + 1):
            break
        chosen.append(chosen[-1] + 1)
    return chosen


def _stretches(free: Sequence[int]) -> Iterator[Span]:
    """The first and the last of each stretch without a gap."""
    first = last = free[0]
    for index in free[1:]:
        if index != last + 1:
            yield first, last
            first = index
        last = index
    yield first, last


def _is_packed(path: str, read: Input) -> bool:
    if (read.format or named_format(path)) is Format.PARQUET:
        return False
    found = named_compression(path) if read.compression is None else read.compression
    return found is not Compression.NONE
