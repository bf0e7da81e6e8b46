"""From what is ready and what is wanted to what holds: the versions that batchers know and the shares of gateways.

A share only ever goes to a version that is ready. Where a version of the rule is not, its share goes to the others
in proportion, and where none of them is ready, to the model's default. The default is the version that had
most of the traffic last, as long as it is ready: a version that was just deployed gets nothing by itself, and one that
comes back gets no more than the rule gives it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.router.domain.backends import ReadyModel
from services.router.domain.routing import ModelRoutes, Share
from services.router.domain.rules import Split


@dataclass(frozen=True, slots=True)
class ServingModel:
    """What batchers are told of a model."""

    ready: ReadyModel
    default_version: str
    """For requests that neither ask for a version nor were given one by a gateway."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """What holds for a model."""

    serving: ServingModel
    routes: ModelRoutes
    displaced: tuple[str, ...] = ()
    """Versions that have a share by the rule and are not ready."""


def state_of(ready: ReadyModel, split: Split | None, *, default: str) -> ModelState:
    """What holds for a model under its rule (None: it has none). `default`: its default up to now; empty: none yet."""
    versions = ready.version_names
    shares = effective_shares(split, versions) if split is not None else ()
    if not shares:
        shares = (Share(default if default in versions else versions[0], 100),)
    displaced = tuple(version for version in split.positive if version not in versions) if split is not None else ()
    return ModelState(
        serving=ServingModel(ready, _heaviest(shares, default)),
        routes=ModelRoutes(
            model_name=ready.model_name,
            versions=versions,
            shares=shares,
            sticky_header=split.sticky_header if split is not None else "",
        ),
        displaced=displaced,
    )


def effective_shares(split: Split, ready: Collection[str]) -> tuple[Share, ...]:
    """The shares of the versions that are ready, in the split's order, adding up to 100; () where none of them is."""
    present = [(version, weight) for version, weight in split.positive.items() if version in ready]
    if not present:
        return ()
    total = sum(weight for _, weight in present)
    floors = [weight * 100 // total for _, weight in present]
    # What rounding down left over goes to those that lost most by it.
    by_loss = sorted(range(len(present)), key=lambda place: (-(present[place][1] * 100 % total), place))
    for place in by_loss[: 100 - sum(floors)]:
        floors[place] += 1
    return tuple(Share(version, percent) for (version, _), percent in zip(present, floors, strict=True))


def _heaviest(shares: Sequence[Share], default: str) -> str:
    most = max(share.percent for share in shares)
    heaviest = [share.version for share in shares if share.percent == most]
    return default if default in heaviest else heaviest[0]
