"""TLS towards servers that are not the mesh's own: whose certificates are believed, and what to do about others.

A server has to show a certificate for the very host that its address names. There is no way to do without that: whoever
is between could read and answer.
"""

import ssl
from functools import cached_property
from pathlib import Path

import certifi
import grpc

VARIABLE = "INFERMESH_EXTERNAL_CA"
"""The setting that names the authorities, of deployer and batcher alike."""

_SYSTEM_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Where Debian's and Fedora's families keep in one file what OpenSSL itself looks up in a folder."""
_ANOTHER_NAME = (
    "Hostname mismatch",
    "IP address mismatch",
    "Hostname Verification Check failed",
    "is not in peer certificate",
)
_EXPIRED = ("certificate has expired", "CERTIFICATE_EXPIRED")
_NO_TLS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "record layer failure")
_DISBELIEVED = ("CERTIFICATE_VERIFY_FAILED", "BAD_SIGNATURE", "certificate signature failure")
_HANDSHAKE = ("[SSL", "handshake failed", "Custom verification check failed")


class OutsideTls:
    """Whose certificates are believed. Read once: what is renewed is believed after a restart."""

    def __init__(self, ca_file: str = "") -> None:
        """By the authorities in `ca_file`, in PEM; empty: by those that this system believes."""
        self._ca_file = ca_file

    @staticmethod
    def told(ca_file: str) -> "OutsideTls":
        """By a setting. Raises SystemExit with one sentence where the file holds no certificate."""
        made = OutsideTls(ca_file)
        try:
            why = "" if not ca_file or made.for_sockets.get_ca_certs() else "it holds none of an authority"
        except (OSError, ValueError) as error:
            why = str(error)
        if why:
            raise SystemExit(
                f"{VARIABLE} is {ca_file!r}, where no authority can be read ({why}); name a file with the certificates "
                "of yours in PEM, or leave it empty for those that this system believes"
            )
        return made

    @cached_property
    def for_sockets(self) -> ssl.SSLContext:
        """For HTTP/1.1. Raises OSError, ValueError where no authority can be read."""
        # Not ssl's default context: without authorities it would believe the system's.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self._authorities)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def for_channels(self) -> grpc.ChannelCredentials:
        """For gRPC. Raises OSError, ValueError where no authority can be read."""
        # gRPC would believe its own where there are none.
        assert self.for_sockets.get_ca_certs()
        return grpc.ssl_channel_credentials(self._authorities.encode())

    @cached_property
    def _authorities(self) -> str:
        return Path(self._ca_file or system_authorities()).read_text()


def system_authorities() -> str:
    """The file with the authorities that this system believes; of one that has none, those of Mozilla."""
    candidates = (ssl.get_default_verify_paths().cafile, *_SYSTEM_FILES)
    # httpx brings Mozilla's along.
    return next((name for name in candidates if name and Path(name).is_file()), certifi.where())


def tls_fault(words: str) -> str:
    """Why there is no connection, and what to do, by the words of whichever library tried: what the server does, to
    follow its name. Empty where it is nothing of TLS."""

    def said(signs: tuple[str, ...]) -> bool:
        return any(sign in words for sign in signs)

    if said(_ANOTHER_NAME):
        return "shows a certificate for another host; name it by a host that its certificate has"
    if said(_EXPIRED):
        return "shows a certificate that has expired; have its owner renew it"
    if said(_NO_TLS):
        return "does not speak TLS; name it without the scheme, or have it speak TLS"
    if said(_DISBELIEVED):
        return f"shows a certificate of an authority that is not believed here; add that to the file of {VARIABLE}"
    if said(_HANDSHAKE):
        return f"does not agree on TLS ({' '.join(words.split())[:300]}); see its log"
    return ""
