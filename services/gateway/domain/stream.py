"""One stream of a gateway: what it took of what the router said, and what it lacks that is kept.

The rules of xDS, state of the world: a gateway asks once for each type, for all of it or for some resources by name,
and then answers every response by its nonce. An answer without an error means that it goes by that response. A response
that it refused is never kept: a gateway that starts anew would refuse it again, and have nothing instead.

A gateway that says on a new stream that it has everything is told nothing out of what is kept. It goes by something,
and whatever that is, it is no older than ours.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from services.gateway.domain.messages import Configuration, Kept, Request, Response, in_part, is_complete

UNANSWERED_MAX = 4
"""Responses of one type that wait for the gateway's answer. Of more the oldest are forgotten: they may be large, and
the newest is what counts."""

_KEPT_NONCE = "kept-"
"""What the nonces of the keeper's own answers begin with. The router's do not: it counts."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a request means for the keeper."""

    kept: Configuration | None = None
    """What the gateway goes by from now on; None: nothing has changed."""
    unknown: bool = False
    """The gateway goes by a version that is not kept: the router must be asked for all of it, or it never will be."""
    refused: str = ""
    """Why the gateway did not take what the keeper had sent; empty: it did, or was not asked."""


@dataclass(slots=True)
class _Asked:
    """What is known of one type."""

    names: frozenset[str]
    """Of what is wanted; empty: all."""
    asked_s: float
    """When the last of it was asked for, by a monotonic clock."""
    answered: bool
    """Whether the gateway has something, by its own word or by an answer."""
    here: frozenset[str]
    """The names of what it has."""
    unanswered: deque[Response] = field(default_factory=lambda: deque(maxlen=UNANSWERED_MAX))

    @property
    def waiting(self) -> bool:
        """Whether something that is wanted is not here."""
        return bool(self.names - self.here) if self.names else not self.answered

    def lacking(self, kept: Kept) -> dict[str, bytes]:
        """What is wanted, kept and not here."""
        if self.names:
            return {name: kept.resources[name] for name in sorted(self.names - self.here) if name in kept.resources}
        return dict(kept.resources)

    def answer(self, response: Response) -> None:
        """It has been sent this."""
        self.answered = True
        self.here |= response.resources.keys()


class Stream:
    """The state of one stream. Tell it everything that passes, in order."""

    def __init__(self) -> None:
        self._types: dict[str, _Asked] = {}
        self._answers = 0

    def heard(self, request: Request, kept: Configuration, *, now_s: float) -> Heard:
        """The gateway says this, while `kept` is on disk or on its way there."""
        known = self._types.get(request.type_url)
        if known is None:
            complete = is_complete(request.version)
            here = request.names if complete else frozenset[str]()
            self._types[request.type_url] = _Asked(request.names, now_s, answered=complete, here=here)
            return Heard(unknown=bool(request.version) and request.version != kept.version(request.type_url))
        if request.names - known.names:
            known.asked_s = now_s
        known.names = request.names
        if request.nonce.startswith(_KEPT_NONCE):
            return Heard(refused=request.refusal)
        taken = _taken(known.unanswered, request)
        return Heard(kept=kept.with_taken(taken, by_name=bool(request.names)) if taken is not None else None)

    def said(self, response: Response) -> None:
        """The router says this."""
        known = self._types.get(response.type_url)
        if known is not None:
            known.answer(response)
            known.unanswered.append(response)

    @property
    def waiting(self) -> bool:
        """Whether the gateway has asked for something that nobody has answered."""
        return self.waiting_since() is not None

    def waiting_since(self, *, after_s: float = -inf) -> float | None:
        """When the gateway first asked, after `after_s`, for what nobody has answered; None: it waits for nothing."""
        asked_s = [known.asked_s for known in self._types.values() if known.waiting and known.asked_s > after_s]
        return min(asked_s, default=None)

    def lacking(self, kept: Configuration, *, asked_by_s: float) -> Sequence[Response]:
        """What is kept of all that the gateway has asked for by then and nobody has answered. It counts as answered
        from here on."""
        found = []
        for type_url, known in self._types.items():
            ours = kept.types.get(type_url)
            if ours is None or not known.waiting or known.asked_s > asked_by_s:
                continue
            resources = known.lacking(ours)
            if known.names and not resources:
                continue
            self._answers += 1
            all_there = not known.names or ours.resources.keys() <= known.here | resources.keys()
            version = ours.version if all_there else in_part(ours.version, self._answers)
            response = Response(type_url, version, f"{_KEPT_NONCE}{self._answers}", resources)
            known.answer(response)
            found.append(response)
        return found


def _taken(unanswered: deque[Response], request: Request) -> Response | None:
    """The response that this request says was taken. It and those before it wait no longer."""
    if not any(response.nonce == request.nonce for response in unanswered):
        return None  # not about a response, or about one that is forgotten
    while True:
        response = unanswered.popleft()
        if response.nonce == request.nonce:
            return None if request.refusal else response
