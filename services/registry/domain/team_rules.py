"""What a team demands of artifacts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TeamRules:
    """The rules of one team, or of models without a team."""

    team: str = ""
    """Empty: no team."""
    allow_unsafe: bool = False
    """Whether artifacts whose loading runs code may be registered."""
    trusted_signers: tuple[str, ...] = ()
    """Public keys and certificates in PEM, and identities that certificates must state."""
