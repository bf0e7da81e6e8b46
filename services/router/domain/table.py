"""The serving table of the batchers: its steps, and how a version that leaves stays in it until no route names it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.common.names import SemanticVersion
from services.router.domain.backends import ReadyModel
from services.router.domain.merge import ServingModel
from services.router.domain.routing import ModelRoutes

ServingModels = Mapping[str, ServingModel]


@dataclass(frozen=True, slots=True)
class ServingTable:
    """All that batchers are told."""

    revision: int = 0
    models: ServingModels = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TableStep:
    """What leads a batcher from the table that it has to the newest."""

    revision: int
    full: bool
    models: tuple[ServingModel, ...]
    removed: tuple[str, ...]
    revoked: tuple[str, ...] | None = None
    """The keys that are revoked by now; None: as before."""


def step(known: ServingTable, newest: ServingTable) -> TableStep:
    """The step for someone who knows `known`; revision 0 knows nothing."""
    return TableStep(
        revision=newest.revision,
        full=known.revision == 0,
        models=tuple(
            model
            for name, model in newest.models.items()
            # Most models are the same object in both tables.
            if known.models.get(name) is not model and known.models.get(name) != model
        ),
        removed=tuple(name for name in known.models if name not in newest.models),
    )


def transitional(
    wanted: ServingModel | None, known: ServingModel | None, routed: ModelRoutes | None
) -> ServingModel | None:
    """What batchers must know of a model while gateways go over from `routed` to what `wanted` has: both.

    `known` is what batchers know now. None: nothing of the model.
    """
    if known is None or routed is None:
        return wanted
    kept = () if wanted is None else wanted.ready.version_names
    leaving = tuple(
        version
        for version in known.ready.versions
        if version.version in routed.versions and version.version not in kept
    )
    if not leaving:
        return wanted
    if wanted is None:
        names = [version.version for version in leaving]
        default = known.default_version if known.default_version in names else names[0]
        return ServingModel(
            ReadyModel(known.ready.model_name, leaving, known.ready.team),
            default,
            aliases={alias: version for alias, version in known.aliases.items() if version in names},
            log_labels=known.log_labels,
            owner=known.owner,
        )
    versions = sorted((*wanted.ready.versions, *leaving), key=lambda one: SemanticVersion.parse(one.version))
    return replace(wanted, ready=ReadyModel(wanted.ready.model_name, tuple(versions), wanted.ready.team))


def brings_news(known: ServingModel | None, wanted: ServingModel | None) -> bool:
    """Whether `wanted` says something that batchers who have `known` must know before the change counts: a version,
    facts about one, other shadows, other aliases, or that predictions are logged in full. What is missing only because
    its version leaves is no news."""
    if wanted is None:
        return False
    if known is None:
        return True
    versions = frozenset(known.ready.versions)
    ready = wanted.ready.version_names
    return (
        any(version not in versions for version in wanted.ready.versions)
        or wanted.shadows != tuple(one for one in known.shadows if one.version in ready)
        or wanted.aliases != {alias: version for alias, version in known.aliases.items() if version in ready}
        or (wanted.log_labels and not known.log_labels)
    )
