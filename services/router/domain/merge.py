"""From what is ready and what is wanted to what holds: the versions that batchers know and the shares of gateways.

A share only ever goes to a version that is ready. Where a version of the rule is not, its share goes to the others
in proportion, and where none of them is ready, to the model's default. A condition or a shadow whose version is not
ready is left out until it is. The default is the version that had most of the traffic last, as long as it is ready: a
version that was just deployed gets nothing by itself, and one that comes back gets no more than the rule gives it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from services.router.domain.access import NOBODYS, Owner
from services.router.domain.backends import ReadyModel
from services.router.domain.conditions import routed
from services.router.domain.places import Runs, counted, proportional, reassigned
from services.router.domain.routing import ModelRoutes, Share
from services.router.domain.rules import Split
from services.router.domain.shadows import Shadow


@dataclass(frozen=True, slots=True)
class ServingModel:
    """What batchers are told of a model."""

    ready: ReadyModel
    default_version: str
    """For requests that neither ask for a version nor were given one by a gateway."""
    shadows: tuple[Shadow, ...] = ()
    """Versions that get copies of requests; each is ready."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """What callers may ask for instead of a version; each one's version is ready."""
    log_labels: bool = False
    """Whether the prediction log must say what was predicted for each row."""
    owner: Owner = NOBODYS
    """Whose it is, and with whom it is shared."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """What holds for a model."""

    serving: ServingModel
    routes: ModelRoutes
    displaced: tuple[str, ...] = ()
    """Versions that have a share by the rule and are not ready."""


def state_of(
    ready: ReadyModel,
    split: Split | None,
    *,
    default: str,
    aliases: Mapping[str, str] | None = None,
    log_labels: bool = False,
    owner: Owner | None = None,
) -> ModelState:
    """What holds for a model under its rule (None: it has none). `default`: its default up to now; empty: none yet.
    `aliases`: all that the registry has for the model. `owner`: by the registry's word; None: it has said nothing, and
    the deployer's holds."""
    versions = ready.version_names
    shares = effective_shares(split, versions) if split is not None else ()
    if not shares:
        shares = (Share(default if default in versions else versions[0], 100),)
    return ModelState(
        serving=ServingModel(
            ready,
            _heaviest(shares, default),
            shadows=tuple(one for one in split.shadows if one.version in versions) if split is not None else (),
            aliases={alias: version for alias, version in (aliases or {}).items() if version in versions},
            log_labels=log_labels,
            owner=owner if owner is not None else Owner(ready.team),
        ),
        routes=ModelRoutes(
            model_name=ready.model_name,
            versions=versions,
            shares=shares,
            sticky_header=split.sticky_header if split is not None else "",
            conditions=routed(split.conditions, versions) if split is not None else (),
        ),
        displaced=tuple(one for one in split.positive if one not in versions) if split is not None else (),
    )


def effective_shares(split: Split, ready: Collection[str]) -> Runs:
    """Who owns which place while only `ready` answer; () where none of them has a share.

    The places of those that are not ready go to the others in proportion and come back as they were; whoever is ready
    keeps all of its own meanwhile.
    """
    if all(version in ready for version in split.positive):
        return split.runs
    weights = proportional(split.weights, ready)
    return reassigned(split.runs, weights) if weights else ()


def _heaviest(shares: Sequence[Share], default: str) -> str:
    counts = counted(shares)
    most = max(counts.values())
    heaviest = [version for version, count in counts.items() if count == most]
    return default if default in heaviest else heaviest[0]
