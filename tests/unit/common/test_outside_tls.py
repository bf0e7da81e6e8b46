"""Addresses of others' servers, whose certificates are believed there, and what people are told where one is not."""

from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.common.outside_tls import OutsideTls, system_authorities, tls_fault
from services.common.server_address import ServerAddress
from services.supervisor.certificates import LocalAuthority


@pytest.mark.parametrize(
    ("address", "host", "port", "tls"),
    [
        ("10.0.0.7:80", "10.0.0.7", 80, False),
        ("https://models.example:443", "models.example", 443, True),
        ("grpcs://[::1]:9000", "::1", 9000, True),
        ("[::1]:9000", "::1", 9000, False),
    ],
)
def test_an_address_says_host_port_and_tls(address: str, host: str, port: int, *, tls: bool) -> None:
    at = ServerAddress.of(address)
    assert (at.host, at.port, at.tls) == (host, port, tls)
    assert at.host_port == address.partition("//")[2] or not tls


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] Hostname mismatch, certificate is not valid for 'a'",
         "name it by a host that its certificate has"),
        ("Custom verification check failed with error: UNAUTHENTICATED: Hostname Verification Check failed.",
         "name it by a host that its certificate has"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)",
         "add that to the file of INFERMESH_EXTERNAL_CA"),
        ("Tls handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL: ...:BAD_SIGNATURE: certificate signature failure",
         "add that to the file of INFERMESH_EXTERNAL_CA"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired", "have its owner renew it"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "does not speak TLS"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "does not agree on TLS"),
        ("Connection refused", ""),
    ],
)  # fmt: skip
def test_people_are_told_what_to_do(said: str, words: str) -> None:
    assert words in tls_fault(said)
    assert bool(words) is bool(tls_fault(said))


def test_a_setting_that_names_no_authority_is_refused_at_the_start(tmp_path: Path) -> None:
    issued = LocalAuthority(tmp_path, now=SystemClock().now()).issue("server", hosts=("a",))
    OutsideTls.told("")
    believed = OutsideTls.told(str(issued.authority)).for_sockets
    assert believed.check_hostname
    assert len(believed.get_ca_certs()) == 1
    empty = tmp_path / "empty"
    empty.touch()
    for file in (tmp_path / "none", empty, issued.private_key, tmp_path):
        with pytest.raises(SystemExit, match="INFERMESH_EXTERNAL_CA is"):
            OutsideTls.told(str(file))


def test_this_system_believes_somebody() -> None:
    assert "BEGIN CERTIFICATE" in Path(system_authorities()).read_text()
    assert OutsideTls().for_sockets.get_ca_certs()
