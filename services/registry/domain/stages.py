"""Which stage may follow which."""

from collections.abc import Mapping

from services.common.errors import MeshError, Reason, invalid
from services.registry.domain.version import Stage, Version

NEXT: Mapping[Stage, tuple[Stage, ...]] = {
    Stage.DRAFT: (Stage.ACTIVE, Stage.ARCHIVED),
    Stage.ACTIVE: (Stage.DEPRECATED,),
    Stage.DEPRECATED: (Stage.ACTIVE, Stage.ARCHIVED),
    Stage.ARCHIVED: (Stage.DEPRECATED,),
}
"""What is active goes out of use step by step: deprecated first, so that callers can leave."""


def check_stage(text: str) -> Stage:
    """The stage of that name. Raises INVALID_FIELD."""
    if text not in tuple(Stage):
        raise invalid("stage", text, "one of " + ", ".join(Stage))
    return Stage(text)


def check_transition(version: Version, wanted: Stage) -> None:
    """Raises STAGE_TRANSITION_INVALID where `wanted` cannot follow the version's stage."""
    if wanted not in NEXT[version.stage]:
        raise MeshError(
            Reason.STAGE_TRANSITION_INVALID,
            f"{version.version} of model {version.model_name!r} is {version.stage} and cannot become {wanted}; "
            f"it can become {' or '.join(NEXT[version.stage])}",
            metadata={"model_name": version.model_name, "version": version.version, "stage": version.stage},
        )
