"""Who gets which chunk: each once, mostly the next one to what was read last, whatever the workers' speeds."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.chunks import PlannedFile
from services.batch.domain.job import Compression, Format, Input
from services.batch.domain.shards import Span, choose, packed_spans, share

_CHUNKS = st.integers(1, 60)


@given(
    free=st.sets(st.integers(0, 40)),
    taken=st.sets(st.integers(0, 40)),
    after=st.none() | st.integers(-1, 40),
    limit=st.integers(0, 6),
)
def test_what_is_given_is_free_and_in_one_piece(free: set[int], taken: set[int], after: int | None, limit: int) -> None:
    taken -= free
    chosen = list(choose(sorted(free), taken, after=after, limit=limit))
    assert len(chosen) <= limit
    assert bool(chosen) == bool(free and limit)
    assert set(chosen) <= free
    assert chosen == list(range(chosen[0], chosen[-1] + 1)) if chosen else True
    if chosen and after is not None and after + 1 in free:
        assert chosen[0] == after + 1


@given(chunks=_CHUNKS, workers=st.integers(1, 6), seed=st.integers(0, 10**6), limit=st.integers(1, 3))
def test_workers_of_any_speed_do_every_chunk_once_and_seldom_jump(
    chunks: int, workers: int, seed: int, limit: int
) -> None:
    rng = random.Random(seed)
    speeds = [rng.uniform(0.2, 3) for _ in range(workers)]
    done: list[int] = []
    held: dict[int, list[int]] = {}
    last: dict[int, int] = {}
    jumps = 0
    while len(done) < chunks:
        worker = rng.choices(range(workers), weights=speeds)[0]
        if held.get(worker):
            done.append(held[worker].pop(0))
            continue
        taken = {index for indexes in held.values() for index in indexes}
        free = [index for index in range(chunks) if index not in taken and index not in done]
        chosen = choose(free, taken, after=last.get(worker), limit=limit)
        if chosen:
            jumps += chosen[0] != last.get(worker, -2) + 1
            held[worker], last[worker] = list(chosen), chosen[-1]
    assert sorted(done) == list(range(chunks))
    # One begins, and each jump halves what it meets or fills what was left.
    assert jumps <= workers * (2 + 2 * math.ceil(math.log2(chunks + 1)))


@given(most=st.integers(1, 256), owners=st.integers(1, 64))
def test_shares_together_are_no_more_than_the_job_may_have(most: int, owners: int) -> None:
    assert share(most, owners) >= 1
    if owners <= most:
        assert owners * share(most, owners) <= most


@st.composite
def _files(draw: st.DrawFn, *, packed: bool | None = None) -> tuple[int, list[Span]]:
    """Chunks of files one after another, and the spans of those that are packed."""
    first, spans = 0, []
    for chunks in draw(st.lists(st.integers(1, 12), min_size=1, max_size=6)):
        if draw(st.booleans()) if packed is None else packed:
            spans.append((first, first + chunks - 1))
        first += chunks
    return first, spans


def _of(index: int, spans: Sequence[Span]) -> Span | None:
    return next((span for span in spans if span[0] <= index <= span[1]), None)


@given(files=_files(), data=st.data(), limit=st.integers(1, 4))
def test_nobody_comes_second_to_a_packed_file_while_there_is_anything_else(
    files: tuple[int, list[Span]], data: st.DataObject, limit: int
) -> None:
    total, spans = files
    states = data.draw(st.lists(st.sampled_from(["free", "taken", "done"]), min_size=total, max_size=total))
    free = [index for index, state in enumerate(states) if state == "free"]
    taken = {index for index, state in enumerate(states) if state == "taken"}
    after = data.draw(st.none() | st.integers(-1, total - 1))
    chosen = list(choose(free, taken, after=after, limit=limit, packed=spans))
    read = {_of(index, spans) for index in taken} - {None}
    alone = [index for index in free if _of(index, spans) not in read]
    assert set(chosen) <= set(free)
    if after is not None and after + 1 in free:
        assert chosen[0] == after + 1
        return
    if not chosen:
        assert not alone, "what nobody reads is always given"
        return
    assert chosen == list(range(chosen[0], chosen[-1] + 1))
    span = _of(chosen[0], spans)
    if span is None:
        return
    first_free = next(index for index in free if _of(index, spans) == span)
    if span not in read:
        assert chosen[0] in {index for index in free if index == span[0] or index - 1 not in free}
        assert first_free <= chosen[0]
    else:
        assert not alone
        end = chosen[0]
        while end + 1 in free and end + 1 <= span[1]:
            end += 1
        assert 0.1 * (chosen[0] - span[0]) < end + 1 - chosen[0], "more is done than is unpacked for nothing"


@given(files=_files(packed=True), workers=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_packed_files_are_read_by_one_each_as_long_as_there_are_enough(
    files: tuple[int, list[Span]], workers: int, seed: int
) -> None:
    total, spans = files
    rng = random.Random(seed)
    done: list[int] = []
    held: dict[int, int] = {}
    last: dict[int, int] = {}
    while len(done) < total:
        worker = rng.randrange(workers)
        finished = held.pop(worker, None)
        if finished is not None:
            done.append(finished)
        taken = set(held.values())
        free = [index for index in range(total) if index not in taken and index not in done]
        chosen = choose(free, taken, after=last.get(worker), limit=1, packed=spans)
        if not chosen:
            assert not free or taken, "somebody goes on"
            continue
        (index,) = chosen
        if index != last.get(worker, -2) + 1 and _of(index, spans) in {_of(other, spans) for other in taken}:
            unread = {_of(other, spans) for other in free} - {_of(other, spans) for other in taken}
            assert not unread
        held[worker], last[worker] = index, index
    assert sorted(done) == list(range(total))


def test_a_long_packed_file_is_shared_where_both_are_done_at_one_time() -> None:
    span = (0, 99)
    (entry,) = choose(range(1, 100), {0}, after=None, limit=1, packed=[span])
    # The first has so many to do, the second unpacks and does the rest.
    assert abs((entry - 1) - (0.1 * entry + 100 - entry)) <= 1
    assert choose([99], {98}, after=None, limit=1, packed=[span]) == ()
    assert choose([99], {98}, after=None, limit=1) == [99]


@pytest.mark.parametrize(
    ("read", "spans"),
    [
        (Input("/in/", "/in/", None), [(2, 3)]),
        (Input("/in/", "/in/", None, compression=Compression.GZIP), [(0, 1), (2, 3), (4, 4)]),
        (Input("/in/", "/in/", None, compression=Compression.NONE), []),
        (Input("/in/", "/in/", Format.PARQUET), []),
    ],
)
def test_which_files_are_packed_follows_from_their_names_and_what_was_asked(read: Input, spans: list[Span]) -> None:
    files = [PlannedFile(f"/in/{name}", "", first, 0) for name, first in [("a.csv", 0), ("b.csv.gz", 2), ("c.csv", 4)]]
    assert packed_spans(files, 5, read) == spans
    alone = Input("/in.csv.zst", "/in.csv.zst", Format.CSV)
    assert packed_spans((), 7, alone) == [(0, 6)]
