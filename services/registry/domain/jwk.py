"""Public keys of ES256 as JSON Web Keys (RFC 7517), named by their thumbprints (RFC 7638)."""

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

_BYTES = 32
"""Of a coordinate on P-256."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A point on P-256, as two base64url texts without padding."""

    x: str
    y: str

    @property
    def kid(self) -> str:
        """Its thumbprint: the same key has the same name wherever it is loaded."""
        text = json.dumps({"crv": "P-256", "kty": "EC", "x": self.x, "y": self.y}, separators=(",", ":"))
        return _text(hashlib.sha256(text.encode()).digest())


def public_key_of(x: int, y: int) -> PublicKey:
    """The key of a point."""
    return PublicKey(_text(x.to_bytes(_BYTES, "big")), _text(y.to_bytes(_BYTES, "big")))


def key_set(keys: Iterable[PublicKey]) -> str:
    """The JSON Web Key Set, the same text for the same keys."""
    shown = [
        {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key.kid, "x": key.x, "y": key.y}
        for key in sorted(set(keys), key=lambda key: key.kid)
    ]
    return json.dumps({"keys": shown}, separators=(",", ":"))


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
