"""The authority of a local mesh: what it signs, and when it makes something anew."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from services.supervisor.certificates import LocalAuthority

NOW = datetime(2026, 2, 1, tzinfo=UTC)


def test_it_signs_for_names_and_addresses_and_keeps_keys_to_itself(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    issued = LocalAuthority(folder, now=NOW).issue("gateway", hosts=("localhost", "127.0.0.1"))
    made = x509.load_pem_x509_certificate(issued.certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(issued.authority.read_bytes())
    made.verify_directly_issued_by(authority)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway", "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("127.0.0.1")]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {0o600}


def test_what_is_good_stays_and_what_is_near_its_end_is_made_anew(tmp_path: Path) -> None:
    def made(now: datetime) -> tuple[bytes, bytes]:
        issued = LocalAuthority(tmp_path, now=now).issue("gateway", hosts=("localhost",))
        return issued.certificate.read_bytes(), issued.authority.read_bytes()

    first = made(NOW)
    assert made(NOW + timedelta(days=700)) == first
    later = made(NOW + timedelta(days=800))
    assert later[0] != first[0]
    assert later[1] != first[1]


def test_a_broken_file_is_replaced(tmp_path: Path) -> None:
    issued = LocalAuthority(tmp_path, now=NOW).issue("gateway", hosts=("localhost",))
    issued.private_key.write_text("half a key")
    again = LocalAuthority(tmp_path, now=NOW).issue("gateway", hosts=("localhost",))
    x509.load_pem_x509_certificate(again.certificate.read_bytes())
    assert again.private_key.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_a_new_authority_signs_for_every_name_anew(tmp_path: Path) -> None:
    names = ("registry", "router")
    for name in names:
        LocalAuthority(tmp_path, now=NOW).folder_for(name, hosts=("localhost",))
    (tmp_path / "ca.key").unlink()
    for name in names:
        folder = LocalAuthority(tmp_path, now=NOW).folder_for(name, hosts=("localhost",))
        authority, made = (
            x509.load_pem_x509_certificate((folder / file).read_bytes()) for file in ("ca.crt", "tls.crt")
        )
        made.verify_directly_issued_by(authority)


def test_a_folder_that_is_good_is_not_written_again(tmp_path: Path) -> None:
    def files() -> dict[str, tuple[int, int]]:
        folder = LocalAuthority(tmp_path, now=NOW).folder_for("router", hosts=("localhost",))
        return {path.name: (path.stat().st_ino, path.stat().st_mode & 0o777) for path in folder.iterdir()}

    first = files()
    assert set(first) == {"ca.crt", "tls.crt", "tls.key"}
    assert first["tls.key"][1] == 0o600
    assert files() == first
