"""Keys as the registry makes them, and what people try instead."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from services.common.clock import SystemClock


class Signer:
    """A pair of keys that signs tokens."""

    def __init__(self, kid: str, *, issuer: str = "infermesh", audience: str = "infermesh") -> None:
        self.kid = kid
        self.issuer = issuer
        self.audience = audience
        self.private = ec.generate_private_key(ec.SECP256R1())

    @property
    def public_jwk(self) -> dict[str, Any]:
        """As key sets have it."""
        found: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(self.private.public_key()))
        return {**found, "kid": self.kid, "alg": "ES256", "use": "sig"}

    @property
    def key_set(self) -> str:
        """With this key alone."""
        return key_set(self)

    def token(self, **claims: Any) -> str:
        """One with these claims; None takes a usual one out."""
        usual = {"iss": self.issuer, "aud": self.audience, "iat": now_s() - 10}
        told = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(told, self.private, algorithm="ES256", headers={"kid": self.kid})

    def key(self, key_id: str, *, role: str = "deployer", team: str = "vision", **claims: Any) -> str:
        """An API key."""
        return self.token(jti=key_id, role=role, team=team, **claims)

    def unsigned(self, **claims: Any) -> str:
        """A token that says of itself that nobody signed it."""
        return f"{_part({'alg': 'none', 'kid': self.kid})}.{_part(self._claims(claims))}."

    def signed_with_the_public_key(self, **claims: Any) -> str:
        """A token signed by a secret that everybody knows."""
        head = f"{_part({'alg': 'HS256', 'kid': self.kid})}.{_part(self._claims(claims))}"
        secret = json.dumps(self.public_jwk).encode()
        signature = hmac.new(secret, head.encode(), hashlib.sha256).digest()
        return f"{head}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"

    def _claims(self, claims: dict[str, Any]) -> dict[str, Any]:
        return {"iss": self.issuer, "aud": self.audience, **claims}


def now_s() -> int:
    """The moment, as tokens have it."""
    return int(SystemClock().now().timestamp())


def key_set(*signers: Signer) -> str:
    """The public keys of these."""
    return json.dumps({"keys": [one.public_jwk for one in signers]})


def bearer(token: str) -> dict[str, str]:
    """The header that carries it."""
    return {"authorization": f"Bearer {token}"}


def _part(told: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")
