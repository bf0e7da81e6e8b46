"""The private key that signs API keys: out of a secret, a file of the operator's, or one made at first start."""

from collections.abc import Mapping
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from services.common.secret_file import kept_secret
from services.registry.domain.jwk import PublicKey, public_key_of


class SigningKey:
    """A `Signer` over a key on P-256."""

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private
        numbers = private.public_key().public_numbers()
        self._public = public_key_of(numbers.x, numbers.y)

    @property
    def public_key(self) -> PublicKey:
        """What verifies its signatures."""
        return self._public

    def sign(self, claims: Mapping[str, object]) -> str:
        """A JWT of these claims."""
        return jwt.encode(dict(claims), self._private, algorithm="ES256", headers={"kid": self._public.kid})


def load_signing_key(*, pem: str, path: Path | None, data_dir: Path) -> SigningKey:
    """The key of `pem`; else of the file at `path`; else of one in `data_dir`, made where there is none yet.

    Raises SystemExit with one sentence where what is given is no such key.
    """
    if pem:
        return _parsed(pem.encode(), "INFERMESH_REGISTRY_SIGNING_KEY")
    if path is not None:
        try:
            return _parsed(path.read_bytes(), str(path))
        except OSError as error:
            raise SystemExit(
                f"the signing key {path} cannot be read ({error.strerror}); see INFERMESH_REGISTRY_SIGNING_KEY_PATH"
            ) from None
    return _kept(data_dir / "keys")


def _kept(folder: Path) -> SigningKey:
    path = folder / "signing.pem"
    return _parsed(kept_secret(path, _made), str(path))


def _made() -> bytes:
    private = ec.generate_private_key(ec.SECP256R1())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _parsed(content: bytes, source: str) -> SigningKey:
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        raise SystemExit(f"{source} is no private key in PEM without a password; {_HOW}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise SystemExit(f"{source} is no key on the curve P-256; {_HOW}")
    return SigningKey(private)


_HOW = "make one: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
