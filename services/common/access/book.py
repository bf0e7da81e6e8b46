"""What a service knows of teams and of models' owners and shares, as the registry told it last."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from services.common.access.decide import Standing
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from services.common.signals import Signal


@dataclass(frozen=True, slots=True)
class TeamTerms:
    """What a team may use, as far as services other than the registry look after it. None and "": no limit."""

    name: str
    cpu: str = ""
    """As in Kubernetes, for instance "64" or "500m"."""
    memory: str = ""
    """As in Kubernetes, for instance "256Gi"."""
    gpu: int | None = None
    batch_concurrency: int | None = None
    require_signature: bool = False


@dataclass(frozen=True, slots=True)
class AccessUpdate:
    """A change of what is known: teams and revoked keys whole, models whole or those that changed."""

    revision: str
    revoked_keys: frozenset[str]
    teams: Mapping[str, TeamTerms]
    models: Mapping[str, Standing]
    models_reset: bool = False
    """True: `models` are all there are."""
    removed_models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sight:
    """The models that a caller sees, for filters of lists."""

    everything: bool
    """True: all there are, also those that nobody has registered; `names` is empty then."""
    names: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    """Those of `names` that the caller's team owns."""
    team: str = ""

    def shows(self, model_name: str) -> bool:
        """Whether the caller sees the model."""
        return self.everything or model_name in self.names

    def owns(self, model_name: str) -> bool:
        """Whether the model is the caller's own, to be changed."""
        return self.everything or model_name in self.own


EVERYTHING = Sight(everything=True)
"""What operators see, the mesh itself, and everybody while authentication is off."""


@dataclass
class _Shelf:
    """The models of one revision, and by whom they are seen."""

    models: dict[str, Standing] = field(default_factory=dict)
    by_team: dict[str, set[str]] = field(default_factory=dict)
    """A team's own models and those that are shared with it; under "": those without a team."""

    def put(self, name: str, standing: Standing) -> None:
        self.drop(name)
        self.models[name] = standing
        for team in {standing.team, *standing.shared_with}:
            self.by_team.setdefault(team, set()).add(name)

    def drop(self, name: str) -> None:
        before = self.models.pop(name, None)
        if before is None:
            return
        for team in {before.team, *before.shared_with}:
            seen = self.by_team[team]
            seen.discard(name)
            if not seen:
                del self.by_team[team]

    def seen_by(self, team: str) -> Iterable[str]:
        return self.by_team.get(team, set()) | self.by_team.get("", set())


class AccessBook:
    """What the registry says, kept up by a follower. Nothing is known before the first `apply`."""

    def __init__(self) -> None:
        self._shelf = _Shelf()
        self._teams: Mapping[str, TeamTerms] = {}
        self._revoked: frozenset[str] = frozenset()
        self._learned: dict[str, Standing | None] = {}
        """What was known before of the models that were learned since the last change."""
        self.revision = ""
        self.changes = Signal()
        """Fired by each `apply`."""

    @property
    def known(self) -> bool:
        """Whether the registry was heard of, now or before this process started."""
        return bool(self.revision)

    def apply(self, update: AccessUpdate) -> None:
        """Takes a change. What was learned before holds no more: it may be in the change; and a share that was taken
        back at once is in none."""
        shelf = _Shelf() if update.models_reset else self._shelf
        for name, before in self._learned.items():
            shelf.drop(name)
            if before is not None and not update.models_reset:
                shelf.put(name, before)
        self._learned = {}
        for name in update.removed_models:
            shelf.drop(name)
        for name, standing in update.models.items():
            shelf.put(name, standing)
        self._shelf, self._teams, self._revoked = shelf, update.teams, update.revoked_keys
        self.revision = update.revision
        self.changes.fire()

    def learn(self, model_name: str, standing: Standing) -> None:
        """Notes, until the next `apply`, what the registry said to one caller, who is not told of all shares."""
        self._learned.setdefault(model_name, self._shelf.models.get(model_name))
        self._shelf.put(model_name, standing)

    def standing(self, model_name: str) -> Standing | None:
        """Whose a model is; None where that is not known, as of one that was registered just now."""
        return self._shelf.models.get(model_name)

    def revoked(self, key_id: str) -> bool:
        """Whether a key has been revoked."""
        return key_id in self._revoked

    def terms(self, team: str) -> TeamTerms:
        """What a team may use; no limits where there is no team. Raises DEPENDENCY_UNAVAILABLE before anything is
        known."""
        if team and not self.known:
            raise not_known()
        return self._teams.get(team) or TeamTerms(team)

    def batch_concurrency(self) -> Mapping[str, int]:
        """The teams that may run only so many batch jobs at one time."""
        return {
            name: terms.batch_concurrency for name, terms in self._teams.items() if terms.batch_concurrency is not None
        }

    def shows(self, identity: Identity, model_name: str) -> bool:
        """Whether a caller sees a model, as far as is known."""
        return not identity.role or identity.unbounded or self._sees(identity, model_name)

    def sight(self, identity: Identity) -> Sight:
        """What a caller sees. Raises DEPENDENCY_UNAVAILABLE before anything is known: an empty list would be a lie."""
        if identity.unbounded:
            return EVERYTHING
        if not self.known:
            raise not_known()
        if identity.models:
            names = {name for name in identity.models if self._sees(identity, name)}
        else:
            names = {name for name in self._shelf.seen_by(identity.team) if self._sees(identity, name)}
        own = {name for name in names if identity.owns(name, self._shelf.models[name].team)}
        return Sight(everything=False, names=frozenset(names), own=frozenset(own), team=identity.team)

    def snapshot(self) -> AccessUpdate:
        """All that is known, as one change."""
        return AccessUpdate(self.revision, self._revoked, self._teams, dict(self._shelf.models), models_reset=True)

    def _sees(self, identity: Identity, name: str) -> bool:
        standing = self._shelf.models.get(name)
        return standing is not None and identity.sees(name, standing.team, standing.shared_with)


def not_known() -> MeshError:
    """DEPENDENCY_UNAVAILABLE: whose models are whose has not been heard yet."""
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "the registry has not said yet who may see what; see whether it runs and try again",
        retry_after_s=1.0,
    )
