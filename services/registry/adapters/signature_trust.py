"""Those whom a team trusts: public keys, roots and identities, out of the lines that name them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

Key = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey
KEYS = (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, rsa.RSAPublicKey)
_CHAIN_MAX = 5
_ISSUER_OIDS = ("1.3.6.1.4.1.57264.1.8", "1.3.6.1.4.1.57264.1.1")
"""Where certificates of Sigstore's kind state who knew the identity."""
_KNOWN_EXTENSIONS = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}
_RSA_BITS_MIN = 2048
_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


class UntrustedError(Exception):
    """Why a signer is not trusted, in a sentence."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What the lines name."""

    keys: Sequence[Key]
    certificates: Sequence[x509.Certificate]
    identities: Sequence[str]


def trust_in(signers: Sequence[str]) -> Trust:
    """Reads the lines: PEM of a public key or a certificate, or an identity, with "|" and its issuer behind it. A line
    that is none of them trusts nobody."""
    keys: list[Key] = []
    certificates: list[x509.Certificate] = []
    identities: list[str] = []
    for text in signers:
        data = text.strip().encode()
        try:
            if b"-----BEGIN CERTIFICATE-----" in data:
                certificates += x509.load_pem_x509_certificates(data)
            elif data.startswith(b"-----BEGIN"):
                key = serialization.load_pem_public_key(data)
                weak = isinstance(key, rsa.RSAPublicKey) and key.key_size < _RSA_BITS_MIN
                if isinstance(key, KEYS) and not weak:
                    keys.append(key)
            elif data:
                identities.append(text.strip())
        except (ValueError, TypeError):
            continue
    return Trust(keys, certificates, identities)


def key_name(key: Key) -> str:
    """What people call a key: the digest of its standard form."""
    data = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{sha256(data).hexdigest()}"


def identity_of(chain: Sequence[x509.Certificate], trust: Trust, now: datetime) -> tuple[str, Key]:
    """Who the first certificate of a chain speaks for, and its key. Raises UntrustedError.

    The chain must end at a trusted certificate, every certificate be valid now, and the identity be a trusted one. No
    transparency log, timestamp or revocation list is asked.
    """
    if not chain:
        raise UntrustedError("the bundle carries no certificate")
    leaf = chain[0]
    key = leaf.public_key()
    if not isinstance(key, KEYS):
        raise UntrustedError("the certificate's key is of a kind that does not sign artifacts")
    _check_leaf(leaf, now)
    names, issuer = _names(leaf)
    who = names[0] if names else leaf.subject.rfc4514_string()
    if leaf in trust.certificates:
        return who, key
    _check_chain(chain, trust, now)
    wanted = [line.partition("|") for line in trust.identities]
    if not any(name in names and (not of or of == issuer) for name, _, of in wanted):
        raise UntrustedError(f"the certificate is of {who!r}, whom the team's trusted_signers do not name")
    return who, key


def _check_chain(chain: Sequence[x509.Certificate], trust: Trust, now: datetime) -> None:
    current, others = chain[0], list(chain[1:])
    for below in range(_CHAIN_MAX):
        root = next((one for one in trust.certificates if _issued(current, one, below, now)), None)
        if root is not None:
            return
        issuer = next((one for one in others if _issued(current, one, below, now)), None)
        if issuer is None:
            break
        others.remove(issuer)
        current = issuer
    raise UntrustedError("no certificate among the team's trusted_signers has issued the one that signed")


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, below: int, now: datetime) -> bool:
    """Whether `issuer` may issue certificates, has issued this one, and is valid now."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not constraints.ca or not usage.key_cert_sign:
            return False
        if constraints.path_length is not None and constraints.path_length < below:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, InvalidSignature, ValueError, TypeError):
        return False
    return _is_valid(issuer, now) and _is_understood(issuer)


def _check_leaf(leaf: x509.Certificate, now: datetime) -> None:
    if not _is_valid(leaf, now):
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        raise UntrustedError(
            f"the certificate is valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} and not now; "
            "no transparency log is asked when it was used"
        )
    if not _is_understood(leaf):
        raise UntrustedError("the certificate has a critical extension that is not understood")
    usages = _extension(leaf, x509.ExtendedKeyUsage)
    if usages is not None and ExtendedKeyUsageOID.CODE_SIGNING not in usages:
        raise UntrustedError("the certificate is not for signing code")
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise UntrustedError("the certificate is not for signing")


def _extension(certificate: x509.Certificate, kind: type[_Kind]) -> _Kind | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _is_understood(certificate: x509.Certificate) -> bool:
    try:
        return all(not one.critical or one.oid in _KNOWN_EXTENSIONS for one in certificate.extensions)
    except (x509.DuplicateExtension, ValueError):
        return False


def _names(leaf: x509.Certificate) -> tuple[Sequence[str], str]:
    """The identities that a certificate states, and who knew them."""
    found = _extension(leaf, x509.SubjectAlternativeName)
    names: list[str] = []
    if found is not None:
        names += found.get_values_for_type(x509.RFC822Name)
        names += found.get_values_for_type(x509.UniformResourceIdentifier)
    for oid in _ISSUER_OIDS:
        for one in leaf.extensions:
            if one.oid.dotted_string == oid and isinstance(one.value, x509.UnrecognizedExtension):
                raw = one.value.value
                # The newer form is a DER string of less than 128 bytes, the older one bare text.
                text = raw[2:] if raw[:1] in (b"\x0c", b"\x16") else raw
                return names, text.decode(errors="replace")
    return names, ""
