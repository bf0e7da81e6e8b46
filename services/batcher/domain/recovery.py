"""What becomes of a batch that has no answer: who is tried again with whom, and who is told.

A batch that the model refused is halved until the guilty ones stand alone: a handful of extra calls instead of one for
each member. What may have reached a model without an answer is tried again a bounded number of times, in halves from
the second time on, in case one member is what breaks the server. What surely reached no model costs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.batcher.domain.failure import FailureKind
from services.batcher.domain.queue import Waiter

NEVER_RAN = frozenset({FailureKind.UNREACHABLE, FailureKind.MISSING, FailureKind.OVERLOADED})
"""No model has seen the batch."""
_BLAME = frozenset({FailureKind.MODEL, FailureKind.PROTOCOL})


@dataclass(slots=True)
class Recovery:
    """What to do with the members of a failed batch; each is in exactly one place."""

    again: list[list[Waiter]] = field(default_factory=list)
    """Batches to send, in this order, before anything else."""
    given_up: list[Waiter] = field(default_factory=list)
    """Those whose failure is final."""
    costs_budget: bool = False
    """Whether `again` repeats what a backend may have done already."""


def recover(kind: FailureKind, members: Sequence[Waiter], *, sent: int, attempts_max: int) -> Recovery:
    """Decides for `members`, who all still want an answer, and counts the attempt against them. `sent` members were in
    the batch: where others have left since, one of those may be the guilty one, so nobody is blamed who was not alone.
    """
    if not members:
        return Recovery()
    if kind in NEVER_RAN:
        return Recovery(again=[list(members)])
    if kind in _BLAME:
        return _halve(members, sent)
    for member in members:
        member.attempts += 1
    if kind is FailureKind.CRASHED:
        for member in members:
            member.crashes += 1
        if any(member.crashes > 1 for member in members):
            return _halve(members, sent)
        return Recovery(again=[list(members)], costs_budget=True)
    recovery = Recovery(costs_budget=True)
    left = [member for member in members if member.attempts < attempts_max]
    recovery.given_up = [member for member in members if member.attempts >= attempts_max]
    if len(left) > 1 and any(member.attempts > 1 for member in left):
        recovery.again = _halves(left)
    elif left:
        recovery.again = [left]
    return recovery


def _halve(members: Sequence[Waiter], sent: int) -> Recovery:
    if sent == 1:
        return Recovery(given_up=list(members))
    if len(members) == 1:
        return Recovery(again=[list(members)])
    return Recovery(again=_halves(members))


def _halves(members: Sequence[Waiter]) -> list[list[Waiter]]:
    middle = (len(members) + 1) // 2
    return [list(members[:middle]), list(members[middle:])]
