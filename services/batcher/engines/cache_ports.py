"""What the prediction cache needs: whoever computes, and a second layer that outlives the process."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.batcher.domain.request import InferRequest, InferResult
from services.common.errors import MeshError


@dataclass(frozen=True, slots=True)
class Stored:
    """One row's answer out of the second layer."""

    result: InferResult
    left_s: float
    """How much longer it lives."""


class Answers(Protocol):
    """Whoever computes what is not kept."""

    async def infer(self, request: InferRequest) -> InferResult:
        """The request's own rows, or MeshError."""
        ...

    def late(self, request: InferRequest, waited_s: float) -> MeshError:
        """What someone is told whose deadline passed while another's request for the same was under way."""
        ...


class AnswerStore(Protocol):
    """The second layer. It is a help and never a need: neither call fails, and neither waits for long."""

    def read(self, keys: Sequence[str]) -> Awaitable[Sequence[Stored | None]] | None:
        """What is stored under each key, within some milliseconds. None: it is not to be asked now.

        What was stored may be anybody's: whoever reads checks that it fits.
        """
        ...

    def write(self, key: str, result: InferResult, *, left_s: float) -> None:
        """Stores one row's answer for `left_s` seconds, later and perhaps."""
        ...
