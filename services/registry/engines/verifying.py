"""Signatures of versions: checked when they come, and again when the team trusts others than it did.

A check holds for the signers that were trusted then. Who reads one version gets a check against those of now: it is
made again where they differ, without reading the artifact's files again. Lists show the last check that was made.
"""

from dataclasses import replace

from services.common.clock import Clock
from services.common.telemetry.logging import get_logger
from services.registry.domain.signatures import KeptSignature, replaces, trust_of
from services.registry.domain.team_rules import TeamRules
from services.registry.domain.version import Version
from services.registry.ports_reading import SignatureBook, SignatureChecker, TeamRulesBook

log = get_logger(__name__)


class Verifying:
    """The checks of signatures."""

    def __init__(self, *, checker: SignatureChecker, book: SignatureBook, rules: TeamRulesBook, clock: Clock) -> None:
        self._checker = checker
        self._book = book
        self._rules = rules
        self._clock = clock

    async def take(self, version: Version, content: bytes) -> Version:
        """The version with a signature that was sent for it, unless that is worse than the one it has.

        Raises ARTIFACT_INVALID where the artifact's files cannot be told.
        """
        rules = await self._rules.rules(version.team)
        kept = await self._book.find(version.version_id)
        checked = await self._checked(version, content, rules, fits=None)
        if replaces(checked, kept):
            await self._book.keep(version.version_id, checked)
            kept = checked
        return replace(version, signature=kept.signature if kept is not None else None)

    async def current(self, version: Version) -> Version:
        """The version with a check against those whom the team trusts now."""
        if version.signature is None:
            return version
        rules = await self._rules.rules(version.team)
        kept = await self._book.find(version.version_id)
        if kept is None or kept.trust == trust_of(rules.trusted_signers):
            return replace(version, signature=kept.signature if kept is not None else None)
        again = await self._checked(version, kept.content, rules, fits=kept.fits)
        await self._book.keep(version.version_id, again)
        return replace(version, signature=again.signature)

    async def _checked(self, version: Version, content: bytes, rules: TeamRules, *, fits: bool | None) -> KeptSignature:
        checked = await self._checker.check(
            content, version.content.artifact, signers=rules.trusted_signers, now=self._clock.now(), fits=fits
        )
        signature = checked.signature
        log.info(
            "signature checked",
            model=version.model_name,
            version=version.version,
            verified=signature.verified,
            signer=signature.signer,
            problem=signature.problem,
        )
        return KeptSignature(content, signature, checked.fits, trust_of(rules.trusted_signers))
