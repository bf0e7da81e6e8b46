"""The key goes with every call, over TLS as well, and nowhere else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from infermesh.client.credentials import CA_VARIABLE, KEY_VARIABLE, Credentials
from infermesh.client.transport import Transport

KEY = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln"


def _plain(message: bytes) -> bytes:
    return message


@dataclass
class Listener:
    """Answers every kind of call, and keeps what was in `authorization`."""

    address: str = ""
    seen: list[object] = field(default_factory=list)

    def handler(self) -> grpc.GenericRpcHandler:
        def note(context: grpc.ServicerContext) -> None:
            self.seen.append(dict(context.invocation_metadata()).get("authorization"))

        def one(_request: bytes, context: grpc.ServicerContext) -> bytes:
            note(context)
            return b"answer"

        def many(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            note(context)
            yield b"answer"

        def taken(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            note(context)
            return b"".join(requests)

        return grpc.method_handlers_generic_handler(
            "calls",
            {
                "One": grpc.unary_unary_rpc_method_handler(one),
                "Many": grpc.unary_stream_rpc_method_handler(many),
                "Taken": grpc.stream_unary_rpc_method_handler(taken),
            },
        )


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[bytes, bytes, Path]:
    """A private key and a certificate for 127.0.0.1, and the certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    begins = datetime.now(UTC) - timedelta(minutes=5)  # noqa: TID251 - certificates know the wall clock alone
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    file = tmp_path / "ca.crt"
    file.write_bytes(pem)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private, pem, file


@pytest.fixture(params=["plain", "tls"])
def listener(request: pytest.FixtureRequest, certificate: tuple[bytes, bytes, Path]) -> Iterator[Listener]:
    """One that listens, with TLS or without."""
    private, pem, _ = certificate
    made = Listener()
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((made.handler(),))
        if request.param == "tls":
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(private, pem)]))
            made.address = f"https://127.0.0.1:{port}"
        else:
            made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield made
        server.stop(grace=None).wait()


def test_the_key_goes_with_every_kind_of_call(
    listener: Listener, certificate: tuple[bytes, bytes, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, f" {KEY}\n")
    monkeypatch.setenv(CA_VARIABLE, str(certificate[2]))
    transport = Transport(listener.address, timeout_s=10)
    channel = transport.channel
    assert transport.call(channel.unary_unary("/calls/One", _plain, _plain), b"ask") == b"answer"
    assert list(transport.stream(channel.unary_stream("/calls/Many", _plain, _plain), b"ask", timeout_s=10))
    taken = transport.send(channel.stream_unary("/calls/Taken", _plain, _plain), iter([b"a", b"b"]), timeout_s=10)
    assert taken == b"ab"
    assert listener.seen == [f"Bearer {KEY}"] * 3
    transport.close()


def test_without_a_key_none_is_sent(listener: Listener, certificate: tuple[bytes, bytes, Path]) -> None:
    transport = Transport(listener.address, timeout_s=10, credentials=Credentials(ca_file=certificate[2]))
    transport.call(transport.channel.unary_unary("/calls/One", _plain, _plain), b"ask")
    assert listener.seen == [None]
    transport.close()


@pytest.mark.parametrize("broken", ["two words", "line\nbreak", "ключ"])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(broken: str) -> None:
    with pytest.raises(ValueError, match="the API key") as caught:
        Transport("127.0.0.1:1", credentials=Credentials(broken))
    assert broken not in str(caught.value)
    assert broken not in repr(Credentials(broken))


def test_certificates_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.crt cannot be read"):
        Transport("https://127.0.0.1:1", credentials=Credentials(ca_file=tmp_path / "nowhere.crt"))
