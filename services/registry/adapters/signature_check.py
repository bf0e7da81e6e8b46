"""Whether a signature is one of an artifact, by somebody who is trusted.

A plain signature is over the artifact or over its SHA-256. A Sigstore bundle of the model-signing format carries a
signed statement, whose predicate lists the digest of every file.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, utils

from services.registry.adapters.signature_trust import Key, Trust, UntrustedError, identity_of, key_name, trust_in
from services.registry.domain.signatures import PUBLIC_KEY, SIGSTORE, Checked, Signature

_STATEMENT = "application/vnd.in-toto+json"
_PREDICATE = "https://model_signing/signature/v1.0"
_FILES_MAX = 100_000
_ED25519_BYTES = 64
_CURVE_HASHES: Mapping[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class Signed:
    """What should be signed. The two functions read the artifact, and are called only where they are needed.

    `files` gives the SHA-256 of every file by its path, "." for an artifact that is one file; `content` all bytes, or
    None where these are too many.
    """

    digest: str
    files: Callable[[], Mapping[str, str]]
    content: Callable[[], bytes | None]


class _UnverifiedError(Exception):
    """Why, in a sentence; and by whom it would be."""

    def __init__(self, problem: str, signer: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.signer = signer


def check_signature(
    content: bytes, signed: Signed, signers: Sequence[str], now: datetime, *, fits: bool | None = None
) -> Checked:
    """Checks a signature against what `signers` name. `fits` is what an earlier check found of the manifest.

    Blocking where it reads the artifact.
    """
    bundled = _is_bundle(content)
    kind = SIGSTORE if bundled else PUBLIC_KEY
    trust = trust_in(signers)
    try:
        if bundled:
            statement, signer = _envelope(content, trust, now)
            if fits is not True:
                _check_manifest(statement, signed, signer)
            fits = True
        else:
            signer = _plain(content, signed, trust)
    except _UnverifiedError as error:
        wrong = bool(error.signer) and bundled
        return Checked(Signature(kind, False, error.signer, error.problem, now), False if wrong else fits)
    return Checked(Signature(kind, True, signer, "", now), fits)


def _is_bundle(content: bytes) -> bool:
    """Whether it is meant as JSON. One in 256 raw signatures begins as such, too, but is no text."""
    try:
        return content.decode().lstrip().startswith("{")
    except UnicodeDecodeError:
        return False


def _plain(content: bytes, signed: Signed, trust: Trust) -> str:
    """The key whose signature it is."""
    if not trust.keys:
        raise _UnverifiedError("the team's trusted_signers name no public key")
    digest = bytes.fromhex(signed.digest)
    forms = [content, *_decoded(content)]
    for key in trust.keys:
        for signature in forms:
            if _verifies_artifact(key, signature, digest) or any(
                _verifies(key, signature, message) for message in (digest, signed.digest.encode())
            ):
                return key_name(key)
    # Ed25519 signs whole messages, so the artifact itself is needed.
    edwards = [key for key in trust.keys if isinstance(key, ed25519.Ed25519PublicKey)]
    fitting = [one for one in forms if len(one) == _ED25519_BYTES]
    whole = signed.content() if edwards and fitting else None
    if whole is not None:
        for key in edwards:
            if any(_verifies(key, signature, whole) for signature in fitting):
                return key_name(key)
    raise _UnverifiedError("it is no signature of this artifact by a key that the team's trusted_signers name")


def _decoded(content: bytes) -> Iterable[bytes]:
    """What the signature is where it was sent as text."""
    text = b"".join(content.split())
    try:
        yield base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return


def _verifies_artifact(key: Key, signature: bytes, digest: bytes) -> bool:
    """Whether it signs the bytes that have the digest; never for Ed25519, which hashes by itself."""
    prehashed = utils.Prehashed(hashes.SHA256())
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, ec.ECDSA(prehashed))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            return False
        else:
            key.verify(signature, digest, _pss(), prehashed)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _verifies(key: Key, signature: bytes, message: bytes, algorithm: hashes.HashAlgorithm | None = None) -> bool:
    chosen = algorithm or hashes.SHA256()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(chosen))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            key.verify(signature, message, _pss(), chosen)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _pss() -> padding.PSS:
    return padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO)


def _envelope(content: bytes, trust: Trust, now: datetime) -> tuple[Mapping[str, object], str]:
    """The statement in a bundle, and who signed it."""
    bundle = _json(content, "the signature")
    envelope, material = _inner(bundle, "dsseEnvelope"), _inner(bundle, "verificationMaterial")
    signatures = envelope.get("signatures")
    first = signatures[0] if isinstance(signatures, list) and len(signatures) == 1 else None
    if envelope.get("payloadType") != _STATEMENT or not isinstance(first, dict):
        raise _UnverifiedError("the bundle holds no single signed in-toto statement")
    payload, signature = _base64(envelope.get("payload")), _base64(first.get("sig"))
    signer = _signer(_encoded(payload), signature, _chain(material), trust, now)
    return _json(payload, "the statement"), signer


def _encoded(payload: bytes) -> bytes:
    """What an envelope's signature is over."""
    return b" ".join([f"DSSEv1 {len(_STATEMENT)} {_STATEMENT} {len(payload)}".encode(), payload])


def _signer(message: bytes, signature: bytes, chain: Sequence[x509.Certificate], trust: Trust, now: datetime) -> str:
    if chain:
        try:
            who, key = identity_of(chain, trust, now)
        except UntrustedError as error:
            raise _UnverifiedError(str(error)) from None
        if not _verifies(key, signature, message, _hash_for(key)):
            raise _UnverifiedError("the statement was changed after it was signed")
        return who
    if not trust.keys:
        raise _UnverifiedError("the team's trusted_signers name no public key")
    for key in trust.keys:
        if _verifies(key, signature, message, _hash_for(key)):
            return key_name(key)
    raise _UnverifiedError("it is signed by no key that the team's trusted_signers name, or was changed since")


def _hash_for(key: Key) -> hashes.HashAlgorithm:
    name = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else ""
    return _CURVE_HASHES.get(name, hashes.SHA256())


def _chain(material: Mapping[str, object]) -> Sequence[x509.Certificate]:
    """The certificates of a bundle, the signer's first."""
    listed = material.get("x509CertificateChain")
    certificates = listed.get("certificates") if isinstance(listed, dict) else None
    alone = material.get("certificate")
    found = certificates if isinstance(certificates, list) else [alone] if isinstance(alone, dict) else []
    try:
        return [
            x509.load_der_x509_certificate(_base64(one.get("rawBytes"))) for one in found[:8] if isinstance(one, dict)
        ]
    except (ValueError, TypeError):
        raise _UnverifiedError("a certificate of the bundle is broken") from None


def _check_manifest(statement: Mapping[str, object], signed: Signed, signer: str) -> None:
    """Raises unless the statement lists exactly the artifact's files."""
    predicate = statement.get("predicate")
    listed = predicate.get("resources") if isinstance(predicate, dict) else None
    how = predicate.get("serialization") if isinstance(predicate, dict) else None
    if statement.get("predicateType") != _PREDICATE or not isinstance(listed, list) or len(listed) > _FILES_MAX:
        raise _UnverifiedError("the statement is none of the model-signing format", signer)
    if not isinstance(how, dict) or (how.get("method"), how.get("hash_type")) != ("files", "sha256"):
        raise _UnverifiedError("the statement does not list whole files by their SHA-256", signer)
    resources = {str(one.get("name")): str(one.get("digest")) for one in listed if isinstance(one, dict)}
    root = hashlib.sha256(b"".join(_hex(str(one.get("digest")), signer) for one in listed if isinstance(one, dict)))
    if root.hexdigest() != _subject(statement):
        raise _UnverifiedError("the statement's subject is not what it lists", signer)
    files = signed.files()
    if len(files) == 1 and len(resources) == 1:
        # One file may be signed by itself, or as a folder of its own.
        same = set(files.values()) == set(resources.values())
        if not same:
            raise _UnverifiedError("the file that was signed is not the artifact", signer)
        return
    given = how.get("ignore_paths")
    ignored = [str(path) for path in given] if isinstance(given, list) else []
    counted = {path: one for path, one in files.items() if path in resources or not _is_under(path, ignored)}
    if counted != resources:
        differing = sorted(
            path for path in counted.keys() | resources.keys() if counted.get(path) != resources.get(path)
        )
        raise _UnverifiedError(
            f"the files that were signed are not those of the artifact: {', '.join(differing)[:300]}", signer
        )


def _is_under(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _subject(statement: Mapping[str, object]) -> str:
    subjects = statement.get("subject")
    first = subjects[0] if isinstance(subjects, list) and len(subjects) == 1 else None
    digest = first.get("digest") if isinstance(first, dict) else None
    return str(digest.get("sha256")) if isinstance(digest, dict) else ""


def _json(data: bytes, what: str) -> Mapping[str, object]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise _UnverifiedError(f"{what} is no JSON") from None
    if not isinstance(value, dict):
        raise _UnverifiedError(f"{what} is no JSON object")
    return value


def _inner(value: Mapping[str, object], name: str) -> Mapping[str, object]:
    inner = value.get(name)
    if not isinstance(inner, dict):
        raise _UnverifiedError(f"the bundle has no {name}")
    return inner


def _base64(value: object) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        raise _UnverifiedError("the bundle holds what is no Base64") from None


def _hex(text: str, signer: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise _UnverifiedError("the statement lists what is no digest", signer) from None
