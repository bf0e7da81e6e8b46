"""Who calls: read out of the headers that the gateway sets, once for each caller and not for each request.

What a caller may do follows from six headers alone, so it is kept by their bytes, and of a caller who comes again one
look into a dictionary is all that is paid. What is kept is bounded by two generations: when the younger is full it
becomes the older, whose place it takes; whoever comes again out of the older is young again. That forgets who has not
come for longest, about, without moving anything at a hit.
"""

from collections.abc import Mapping
from enum import Enum, auto

from services.batcher.domain.serving import ServedModel
from services.common.access.decide import Facts, decide_caller
from services.common.access.policy import rule_of
from services.common.access.rule import Rule
from services.common.grpc.identity import (
    HEADER_KEY,
    HEADER_MODELS,
    HEADER_ROLE,
    HEADER_SCOPES,
    HEADER_TEAM,
    HEADER_USER,
    Identity,
    identity_of,
)

_NAMES = (HEADER_USER, HEADER_TEAM, HEADER_ROLE, HEADER_KEY, HEADER_SCOPES, HEADER_MODELS)
_USER, _TEAM, _ROLE, _KEY, _SCOPES, _MODELS = [name.encode() for name in _NAMES]
_CALLERS_MAX = 4096
"""Callers of each of the two generations, some 2 KB each."""
_USES_MAX = 16_384
"""Keys whose use is not told yet and whose callers are forgotten; beyond it the least lately forgotten go untold."""


class Asks(Enum):
    """What is asked of the batcher, as far as it decides who may."""

    HEALTH = auto()
    """Whether the server is there. Anybody may."""
    MODEL = auto()
    """What the server and its models are. Who may predict or read models may."""
    PREDICTION = auto()
    """Predictions. Who may predict may, and so may ask the rest."""


_RULES: Mapping[Asks, Rule] = {
    Asks.HEALTH: rule_of("/inference.GRPCInferenceService/ServerLive"),
    Asks.MODEL: rule_of("/inference.GRPCInferenceService/ModelMetadata"),
    Asks.PREDICTION: rule_of("/infermesh.prediction.v1.PredictionService/Predict"),
}
_NOTHING = Facts()


class Caller:
    """One caller. Shared by all its requests; `used_s` alone changes."""

    __slots__ = ("home", "identity", "limited", "team", "told_s", "used_s", "user")

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.user = identity.user
        self.team = identity.team
        """Who is charged."""
        self.limited = decide_caller(_RULES[Asks.PREDICTION], identity, _NOTHING) is not None
        """Whether `check` has anything to refuse."""
        self.home = None if identity.models or self.limited else identity.team
        """The team whose models the caller sees, all of them; None where each has to be looked at."""
        self.used_s = 0.0
        """When it came last, on the monotonic clock."""
        self.told_s = -1.0
        """Of what use the registry was told."""

    def check(self, asks: Asks) -> None:
        """Raises UNAUTHENTICATED or PERMISSION_DENIED where the caller may not ask that, of whichever model."""
        refusal = decide_caller(_RULES[asks], self.identity, _NOTHING)
        if refusal is not None:
            raise refusal

    def sees(self, model: ServedModel) -> bool:
        """Whether it may read and call the model."""
        return self.identity.sees(model.model_name, model.team, model.shared_with)


INSIDE = Caller(Identity())
"""The mesh itself, and everybody while authentication is off."""


class Callers:
    """All who came lately. One for each batcher, on its loop."""

    def __init__(self, *, callers_max: int = _CALLERS_MAX) -> None:
        """`callers_max`: of each generation."""
        self._max = callers_max
        self._young: dict[tuple[bytes | None, ...], Caller] = {}
        self._old: dict[tuple[bytes | None, ...], Caller] = {}
        self._uses: dict[str, float] = {}

    def of(self, headers: Mapping[bytes, bytes], now_s: float) -> Caller:
        """Who sent a request with these headers, which came at that moment of the monotonic clock."""
        # One by one, in the order of their names: going through them would take half as long again.
        get = headers.get
        key = (get(_USER), get(_TEAM), get(_ROLE), get(_KEY), get(_SCOPES), get(_MODELS))
        caller = self._young.get(key)
        if caller is None:
            caller = self._meet(key)
        caller.used_s = now_s
        return caller

    def take_uses(self) -> Mapping[str, float]:
        """The keys that were used since this was asked last, with the moment of their last use on the monotonic
        clock."""
        taken, self._uses = self._uses, {}
        for callers in (self._old, self._young):
            _note_uses(callers, taken)
        return taken

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._young) + len(self._old)

    def _meet(self, key: tuple[bytes | None, ...]) -> Caller:
        caller = self._old.pop(key, None)
        if caller is None:
            said = {name: value.decode("latin-1") for name, value in zip(_NAMES, key, strict=True) if value}
            caller = Caller(identity_of(said))
        if len(self._young) >= self._max:
            _note_uses(self._old, self._uses)
            self._young, self._old = {}, self._young
            while len(self._uses) > _USES_MAX:
                del self._uses[next(iter(self._uses))]
        self._young[key] = caller
        return caller


def _note_uses(callers: Mapping[tuple[bytes | None, ...], Caller], uses: dict[str, float]) -> None:
    for caller in callers.values():
        key_id, used_s = caller.identity.key_id, caller.used_s
        if key_id and used_s > caller.told_s:
            caller.told_s = used_s
            uses[key_id] = max(used_s, uses.get(key_id, used_s))
