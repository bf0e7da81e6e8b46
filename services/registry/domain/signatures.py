"""The check of an artifact's signature, and what of it is kept so that it can be made again."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

SIGNATURE_BYTES_MAX = 1024 * 1024
SIGSTORE, PUBLIC_KEY = "sigstore", "public-key"


@dataclass(frozen=True, slots=True)
class Signature:
    """How the check came out. `problem` says why it is not verified; `signer` may be known also then."""

    kind: str
    """"sigstore" or "public-key"."""
    verified: bool
    signer: str
    problem: str
    checked_at: datetime


@dataclass(frozen=True, slots=True)
class Checked:
    """The check, and whether the manifest is that of the artifact; None: there is none, or nobody looked."""

    signature: Signature
    fits: bool | None


@dataclass(frozen=True, slots=True)
class KeptSignature:
    """A signature that came with a version."""

    content: bytes
    """As it was sent."""
    signature: Signature
    """The last check."""
    fits: bool | None
    """Whether its manifest is that of the artifact, which never changes; None: it has none, or nobody looked."""
    trust: str
    """`trust_of` those that the team trusted then."""


def trust_of(signers: Sequence[str]) -> str:
    """Differs where other signers are trusted."""
    return hashlib.sha256(json.dumps(sorted(signers)).encode()).hexdigest()


def replaces(new: KeptSignature, kept: KeptSignature | None) -> bool:
    """Whether a signature that was sent takes the place of the one that is kept: never a bad one that of a good one."""
    return kept is None or new.signature.verified or not kept.signature.verified
