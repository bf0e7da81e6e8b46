"""Copies of requests on their way to shadow versions: how many may be, and whose they are."""

from collections import deque
from dataclasses import dataclass, field
from math import inf

from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import ShadowTarget
from services.batcher.domain.shadow_compare import Answered
from services.batcher.domain.shadow_sums import CopyCounts, PairSums

_ONE_SHARE = 16
"""A copy of more than this part of all bytes is none to make: to compare it would hold the loop for long."""
REST_MIN_S = 0.1
REST_MAX_S = 30.0
"""How long a version that nothing can run in time gets no copies; it doubles. Perhaps it is what brings its server
down, and callers with it."""


@dataclass(slots=True)
class Copy:
    """A request to be copied, and what its caller got."""

    target: ShadowTarget
    request: InferRequest
    user: str
    answered: Answered
    answered_s: float
    size: int
    """Bytes of its inputs and of the caller's answer."""


def detached(result: InferResult) -> InferResult:
    """The same answer, holding no more bytes than its own: rows that are views of their batch's answer would keep that
    alive, which no bound of the copies counts."""
    if not any(isinstance(tensor.data, memoryview) for tensor in result.outputs):
        return result
    own = [Tensor(one.name, one.data_type, one.shape, bytes(one.data)) for one in result.outputs]
    return InferResult(tuple(own), result.batch, result.compute_s)


@dataclass(slots=True)
class Course:
    """The copies of one shadow version that are on their way, and what became of the others."""

    model_name: str
    version: str
    pending: deque[Copy] = field(default_factory=deque)
    running: int = 0
    sums: dict[str, PairSums] = field(default_factory=dict)
    """Since they were last reported, by the version that answered callers."""
    counts: CopyCounts = field(default_factory=CopyCounts)
    rests_until_s: float = -inf
    rest_s: float = 0.0
    last_failure: str = ""

    @property
    def held(self) -> int:
        """Copies on their way."""
        return len(self.pending) + self.running

    def pair(self, primary_version: str) -> PairSums:
        """The sums of this version and one that answered callers."""
        sums = self.sums.get(primary_version)
        if sums is None:
            sums = self.sums[primary_version] = PairSums()
        return sums

    def drop(self, primary_version: str) -> None:
        """A copy is never sent."""
        self.counts.dropped += 1
        self.pair(primary_version).dropped += 1

    def rest(self, now_s: float, *, at_least_s: float = 0.0) -> None:
        """Nothing can run the version: it is asked again after a while. Copies that fail together are one failure."""
        if now_s < self.rests_until_s:
            return
        self.rest_s = min(REST_MAX_S, max(REST_MIN_S, at_least_s, 2 * self.rest_s))
        self.rests_until_s = now_s + self.rest_s

    def answers(self) -> None:
        """It was run."""
        self.rest_s = 0.0


class Room:
    """The bounds of one batcher. A version may hold as many copies as are free: alone half of all, two a third each.
    So a version that is slow or dead leaves room for the copies of the others (as queued bytes are shared)."""

    def __init__(self, *, copies_max: int, bytes_max: int) -> None:
        self._copies_max = copies_max
        self._bytes_max = bytes_max
        self.copies = 0
        self.bytes = 0

    def full(self, course: Course) -> bool:
        """Whether there is no room for one more copy, however small."""
        return course.held >= self._copies_max - self.copies

    def take(self, size: int) -> bool:
        """Makes room for one more copy of so many bytes. False where there is none."""
        if self.bytes + size > self._bytes_max or size * _ONE_SHARE > self._bytes_max:
            return False
        self.copies += 1
        self.bytes += size
        return True

    def give_back(self, size: int) -> None:
        """One is not on its way any more."""
        self.copies -= 1
        self.bytes -= size
