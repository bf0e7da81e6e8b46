"""The keys that artifacts are encrypted with: each artifact has one of its own, which a key of the operator's wraps.

Key files hold 32 bytes, as they are, in hexadecimal or in Base64. The first encrypts; the others only decrypt, so a new
key is put before the old one, which may go once no artifact is wrapped by it any more. A key is known by the beginning
of a hash of it, which stands in each artifact's header.
"""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.errors import MeshError, Reason

KEY_BYTES = 32
KEY_ID_BYTES = 8
NO_KEY_ID = bytes(KEY_ID_BYTES)
WRAP_BYTES = 12 + KEY_BYTES + 16
"""A nonce, the wrapped key, and the tag."""


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """The keys by their ids, and which of them encrypts. Without any, nothing is encrypted."""

    current_id: bytes = NO_KEY_ID
    _keys: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def encrypts(self) -> bool:
        """Whether what is stored from now on is encrypted."""
        return self.current_id != NO_KEY_ID

    def wrap(self, data_key: bytes, about: bytes) -> bytes:
        """The data key under the current key, bound to `about`."""
        nonce = secrets.token_bytes(12)
        return nonce + AESGCM(self._keys[self.current_id]).encrypt(nonce, data_key, about)

    def unwrap(self, key_id: bytes, wrapped: bytes, about: bytes) -> bytes:
        """The data key. Raises DEPENDENCY_UNAVAILABLE where the key is not there, ValueError where something was
        changed."""
        key = self._keys.get(key_id)
        if key is None:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the artifact is encrypted with the key {key_id.hex()}, which the registry was not given; add its "
                "file to INFERMESH_REGISTRY_ARTIFACT_KEY_FILE",
            )
        try:
            return AESGCM(key).decrypt(wrapped[:12], wrapped[12:], about)
        except InvalidTag:
            raise ValueError("its header was changed") from None


def load_keys(files: Sequence[Path]) -> KeyRing:
    """The keys in these files, the encrypting one first. Raises SystemExit with one sentence naming the file."""
    keys = {}
    for file in files:
        key = _read(file)
        keys[hashlib.sha256(b"infermesh artifact key\0" + key).digest()[:KEY_ID_BYTES]] = key
    return KeyRing(next(iter(keys), NO_KEY_ID), keys)


def _read(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise SystemExit(
            f"the key file {file} cannot be read ({error.strerror}); see to INFERMESH_REGISTRY_ARTIFACT_KEY_FILE"
        ) from None
    if len(content) == KEY_BYTES:
        return content
    text = content.strip()
    try:
        key = bytes.fromhex(text.decode()) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise SystemExit(
            f"the key file {file} holds no key; it must hold {KEY_BYTES} bytes, as they are, in hexadecimal or in "
            f"Base64: `openssl rand -hex {KEY_BYTES}` makes one"
        )
    return key
