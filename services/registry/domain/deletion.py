"""Removing models and versions: what stands in the way, and what is said of what is gone."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import MeshError, Reason

SURE_AFTER_S = 90.0
"""A call that began to deploy a version before it was hidden has ended by then: the deployer answers within 30 s."""
_NAMES_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True)
class Use:
    """A deployment of a version."""

    deployment_name: str
    version: str


@dataclass(frozen=True, slots=True)
class Target:
    """What shall be removed: a model, or one version of it. `etag` empty: whatever it is now."""

    model_name: str
    version: str = ""
    etag: str = ""

    @property
    def shown(self) -> str:
        """For messages."""
        return f"{self.version} of model {self.model_name!r}" if self.version else f"model {self.model_name!r}"


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal that can still be put back. Unless it is settled, whoever began it has not ended it."""

    removal: str
    target: Target
    settled: bool


def standing_in_the_way(target: Target, uses: Sequence[Use]) -> Sequence[Use]:
    """The deployments that need what shall be removed."""
    return [use for use in uses if not target.version or use.version == target.version]


def deployed(target: Target, uses: Sequence[Use]) -> MeshError:
    """RESOURCE_IN_USE, naming the deployments."""
    names = sorted(use.deployment_name for use in uses)
    return MeshError(
        Reason.RESOURCE_IN_USE,
        f"{target.shown} is deployed as {_listed(names)}; delete the deployment first, or give it another version",
        metadata={"model_name": target.model_name, "deployments": ",".join(names[:_NAMES_SHOWN_MAX])},
    )


def aliased(target: Target, aliases: Sequence[str]) -> MeshError:
    """RESOURCE_IN_USE, naming the aliases."""
    return MeshError(
        Reason.RESOURCE_IN_USE,
        f"{target.shown} is what the alias {_listed(aliases)} points to; point it at another version, or delete it",
        metadata={"model_name": target.model_name, "aliases": ",".join(aliases[:_NAMES_SHOWN_MAX])},
    )


def unanswered(target: Target, error: MeshError) -> MeshError:
    """DEPENDENCY_UNAVAILABLE: without the deployer's word nothing is removed."""
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the deployer does not say whether {target.shown} is deployed ({error.message}); nothing was removed",
        retry_after_s=2.0,
    )


def number_taken(model_name: str, version: str) -> MeshError:
    """VERSION_EXISTS for a number whose version was removed."""
    return MeshError(
        Reason.VERSION_EXISTS,
        f"{version} of model {model_name!r} was removed, and a number is never given out again; register this one "
        "under a new number",
        metadata={"model_name": model_name, "version": version, "removed": "true"},
    )


def being_removed(model_name: str) -> MeshError:
    """DEPENDENCY_UNAVAILABLE for what is just being removed, or will be back in a moment."""
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"model {model_name!r} is being removed at this moment; try again when that is done",
        retry_after_s=2.0,
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_NAMES_SHOWN_MAX])
    more = len(names) - _NAMES_SHOWN_MAX
    return f"{shown} and {more} more" if more > 0 else shown
