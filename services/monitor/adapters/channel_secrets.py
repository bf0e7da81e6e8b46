"""The key that channels' secrets are encrypted with: out of a setting, or a file made at first start."""

import base64
import binascii
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.common.errors import MeshError, Reason
from services.common.secret_file import kept_secret

KEY_BYTES = 32
_NONCE_BYTES = 12
_VARIABLE = "INFERMESH_MONITOR_CHANNEL_KEY"


class ChannelKey:
    """Encrypts with AES-256-GCM. What is encrypted belongs to one name and cannot be put under another."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def sealed(self, secret: str, name: str) -> bytes:
        """The secret of that name, encrypted."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), name.encode())

    def opened(self, sealed: bytes, name: str) -> str:
        """The secret. Raises DEPENDENCY_UNAVAILABLE where it was encrypted with another key."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode()).decode()
        except InvalidTag:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the secret of notification channel {name!r} was encrypted with another key; give the monitor the key "
                f"it had ({_VARIABLE}), or set the secret again",
            ) from None


def load_channel_key(*, text: str, data_dir: Path | None) -> ChannelKey | None:
    """The key of `text` (32 bytes in hexadecimal or Base64); else that in `data_dir`, made where there is none yet;
    None without either. Raises SystemExit with one sentence where `text` is no key."""
    if text:
        return ChannelKey(_parsed(text))
    return ChannelKey(_kept(data_dir)) if data_dir is not None else None


def _parsed(text: str) -> bytes:
    try:
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise SystemExit(
            f"{_VARIABLE} is no key of {KEY_BYTES} bytes in hexadecimal or Base64: "
            f"`openssl rand -hex {KEY_BYTES}` makes one"
        )
    return key


def _kept(folder: Path) -> bytes:
    path = folder / "channel.key"
    key = kept_secret(path, lambda: secrets.token_bytes(KEY_BYTES))
    if len(key) != KEY_BYTES:
        raise SystemExit(f"{path} holds no key of {KEY_BYTES} bytes; put back the one that was there")
    return key
