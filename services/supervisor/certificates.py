"""Certificates of the local mesh: an authority of its own in a folder, and what it signs.

Made where they are missing, broken or near their end; private keys are for their owner's eyes alone.
"""

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.common.disk import replace_file
from services.common.grpc.tls import AUTHORITY, CERTIFICATE, PRIVATE_KEY

_LASTS = timedelta(days=825)
"""The longest that common clients take."""
_RENEWED_BEFORE = timedelta(days=30)
_EARLIER = timedelta(hours=1)
"""Clocks of other machines may be behind."""
_AUTHORITY = "infermesh local authority"


@dataclass(frozen=True, slots=True)
class Issued:
    """Files in PEM."""

    certificate: Path
    private_key: Path
    authority: Path


class LocalAuthority:
    """An authority in `folder`: `ca.crt` to be trusted, `ca.key` to be kept."""

    def __init__(self, folder: Path, *, now: datetime) -> None:
        self._folder = folder
        self._now = now
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)

    def issue(self, name: str, *, hosts: tuple[str, ...]) -> Issued:
        """A certificate called `name`, for servers and clients, good for `hosts` (names and IP addresses)."""
        certificate, key, authority = (self._folder / file for file in (f"{name}.crt", f"{name}.key", AUTHORITY))
        self._renew_authority()
        if not (self._good(certificate, key) and _signed(certificate, by=authority)):
            private = ec.generate_private_key(ec.SECP256R1())
            signer = _read_key(self._folder / "ca.key")
            made = (
                self._begun(name, issuer=_AUTHORITY, public_key=private.public_key())
                .add_extension(x509.SubjectAlternativeName([_host(host) for host in (name, *hosts)]), critical=False)
                .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
                .add_extension(
                    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                    critical=False,
                )
                .sign(signer, hashes.SHA256())
            )
            _write_key(key, private)
            replace_file(certificate, [made.public_bytes(serialization.Encoding.PEM)])
        return Issued(certificate, key, authority)

    def folder_for(self, name: str, *, hosts: tuple[str, ...]) -> Path:
        """The same as services are given it: a folder called `name` with `ca.crt`, `tls.crt` and `tls.key`."""
        issued, folder = self.issue(name, hosts=hosts), self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in (
            (issued.authority, AUTHORITY),
            (issued.private_key, PRIVATE_KEY),
            (issued.certificate, CERTIFICATE),
        ):
            content = source.read_bytes()
            if not (folder / target).is_file() or (folder / target).read_bytes() != content:
                _write_secret(folder / target, content)
        return folder

    def _renew_authority(self) -> None:
        certificate, key = self._folder / AUTHORITY, self._folder / "ca.key"
        if self._good(certificate, key):
            return
        private = ec.generate_private_key(ec.SECP256R1())
        made = (
            self._begun(_AUTHORITY, issuer=_AUTHORITY, public_key=private.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(private, hashes.SHA256())
        )
        _write_key(key, private)
        replace_file(certificate, [made.public_bytes(serialization.Encoding.PEM)])

    def _begun(self, name: str, *, issuer: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(_named(issuer))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - _EARLIER)
            .not_valid_after(self._now + _LASTS)
        )

    def _good(self, certificate: Path, key: Path) -> bool:
        """Whether both are there, belong together and last for a while."""
        try:
            read = x509.load_pem_x509_certificate(certificate.read_bytes())
            private = _read_key(key)
        except (OSError, ValueError):
            return False
        if read.not_valid_after_utc < self._now + _RENEWED_BEFORE:
            return False
        return read.public_key() == private.public_key()


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} holds another kind of key")  # noqa: TRY004 - it is the file that is wrong
    return key


def _signed(certificate: Path, *, by: Path) -> bool:
    """Whether the authority that there is now signed it, and not one that was renewed since."""
    authority, read = (x509.load_pem_x509_certificate(path.read_bytes()) for path in (by, certificate))
    try:
        read.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    _write_secret(
        path,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _write_secret(path: Path, content: bytes) -> None:
    """For its owner's eyes, and at no moment half there: services read it while it is renewed."""
    staged = path.with_name(path.name + ".new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    staged.replace(path)
