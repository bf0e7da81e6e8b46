"""What may be changed about models and versions: descriptions, tags, cards and stages."""

from collections.abc import Callable
from dataclasses import replace

from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.registry.domain.stages import check_stage, check_transition
from services.registry.domain.version import Model, Version
from services.registry.domain.violations import Violations
from services.registry.engines.reading import Reading
from services.registry.ports import Catalogue

log = get_logger(__name__)

_TRIES = 5
"""Concurrent changes of one thing that a change without an etag outlasts."""
_REASON_LENGTH_MAX = 1024


class Changing:
    """The calls that change what is not fixed for good."""

    def __init__(self, *, catalogue: Catalogue, reading: Reading) -> None:
        self._catalogue = catalogue
        self._reading = reading

    async def model(self, name: str, *, etag: str, change: Callable[[Model], Model], team: str) -> Model:
        """The model after `change`. Raises MODEL_NOT_FOUND, ETAG_MISMATCH, and what `change` raises."""
        for _ in range(_TRIES):
            current = await self._reading.model(name, team=team)
            if etag and etag != current.etag:
                break
            wanted = change(current)
            if wanted == current:
                return current
            changed = await self._catalogue.change_model(wanted)
            if changed is not None:
                return changed
        raise mismatch(f"model {name!r}")

    async def version(
        self,
        model_name: str,
        version: str,
        *,
        etag: str,
        change: Callable[[Version], Version],
        team: str,
        reason: str = "",
    ) -> Version:
        """The version after `change`. Raises VERSION_NOT_FOUND beyond what `model` raises."""
        for _ in range(_TRIES):
            current = await self._reading.version(model_name, version, team=team)
            if etag and etag != current.etag:
                break
            wanted = change(current)
            if wanted == current:
                return current
            changed = await self._catalogue.change_version(wanted, reason=reason)
            if changed is not None:
                return changed
        raise mismatch(f"{version} of model {model_name!r}")

    async def stage(
        self, model_name: str, version: str, *, stage: str, reason: str, etag: str, team: str, caller: str
    ) -> Version:
        """The version in its new stage. Raises STAGE_TRANSITION_INVALID beyond what `version` raises."""
        wanted = check_stage(stage)
        check_reason(reason)

        def change(current: Version) -> Version:
            check_transition(current, wanted)
            return replace(current, stage=wanted)

        changed = await self.version(model_name, version, etag=etag, change=change, team=team, reason=reason)
        log.info("stage", model=model_name, version=changed.version, stage=stage, reason=reason, by=caller)
        return changed


def check_reason(reason: str) -> str:
    """`reason` itself. Raises INVALID_FIELD where it is too long to keep."""
    found = Violations()
    found.at_most("reason", reason, _REASON_LENGTH_MAX)
    found.raise_if_any()
    return reason


def mismatch(what: str) -> MeshError:
    """ETAG_MISMATCH for what someone else changed."""
    return MeshError(
        Reason.ETAG_MISMATCH,
        f"{what} was changed by someone else; read it again and repeat the change with its new etag",
    )
