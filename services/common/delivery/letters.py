"""What telling people needs from outside. What a letter tells of is the business of the service that writes it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, TypeVar


class Letter(Protocol):
    """A notification to be delivered. `notice_id` is the same at each try; `tries` counts this one too."""

    @property
    def notice_id(self) -> str:
        """What receivers know repeats by."""
        ...

    @property
    def means(self) -> str:
        """Which courier delivers it."""
        ...

    @property
    def created_at(self) -> datetime:
        """When what it tells of happened."""
        ...

    @property
    def tries(self) -> int:
        """How often it was tried, this time included."""
        ...


L = TypeVar("L", bound=Letter)
L_contra = TypeVar("L_contra", bound=Letter, contravariant=True)


class UndeliveredError(Exception):
    """A letter did not arrive. `why` names no secret; `passing`: it may later, after `asked_s` seconds at least."""

    def __init__(self, why: str, *, passing: bool, asked_s: float = 0.0) -> None:
        super().__init__(why)
        self.why = why
        self.passing = passing
        self.asked_s = asked_s


class Outbox(Protocol[L]):
    """Notifications that wait, written with what they tell of. Raises MeshError where the store is away."""

    async def take(self, *, limit: int, hold_s: float) -> Sequence[L]:
        """Letters that are due, oldest first. Nobody else gets them for `hold_s` seconds."""
        ...

    async def postpone(self, letter: L, *, after_s: float, why: str) -> None:
        """Has a letter that was taken try again later, unless someone else took it meanwhile."""
        ...

    async def end(self, letter: L, outcome: str, *, why: str = "") -> None:
        """Records what became of a letter; nothing more will."""
        ...

    async def waiting(self) -> int:
        """How many letters have not ended."""
        ...


class Courier(Protocol[L_contra]):
    """Delivers by one means."""

    async def deliver(self, letter: L_contra) -> None:
        """Returns once the receiver has taken it. Raises UndeliveredError."""
        ...


class DeliveryBoard(Protocol):
    """Shows operators how telling goes."""

    def told(self, means: str, outcome: str) -> None:
        """A notification was tried: "sent", "postponed" or "given_up"."""
        ...

    def letters_waiting(self, count: int) -> None:
        """So many notifications have not ended, over all processes."""
        ...
