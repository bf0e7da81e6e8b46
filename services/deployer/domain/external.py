"""Servers that users run themselves: what a wish may say of them, and whether what they state fits the version."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from services.common.errors import FieldViolation, MeshError, Reason, shown
from services.common.outside_credentials import NAME
from services.common.schema import ModelSchema, TensorSpec
from services.common.server_address import GRPCS, HTTPS, ServerAddress

ADDRESSES_MAX = 64
_NAME_LENGTH_MAX = 256
_ADDRESS = re.compile(
    r"(?P<scheme>https://|grpcs://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?):(?P<port>[1-9][0-9]{0,4})"
)
_PORT_MAX = 65_535
_ADDRESS_FORM = f'host:port, for instance "10.0.0.7:8080", behind {HTTPS} or {GRPCS} for TLS'


class Protocol(StrEnum):
    """What a server is spoken to by; the proto documents each."""

    OIP_GRPC = "oip-grpc"
    OIP_REST = "oip-rest"
    TENSORFLOW_GRPC = "tensorflow-grpc"
    TENSORFLOW_REST = "tensorflow-rest"
    TORCHSERVE = "torchserve"

    @property
    def over_grpc(self) -> bool:
        """Whether its addresses are of a gRPC server."""
        return self in (Protocol.OIP_GRPC, Protocol.TENSORFLOW_GRPC)

    @property
    def scheme(self) -> str:
        """What its addresses begin with where they are spoken to by TLS."""
        return GRPCS if self.over_grpc else HTTPS

    @property
    def of_tensorflow(self) -> bool:
        """Whether it has signatures."""
        return self in (Protocol.TENSORFLOW_GRPC, Protocol.TENSORFLOW_REST)


@dataclass(frozen=True, slots=True)
class ExternalBackend:
    """The servers of a deployment that the deployer does not run. Checked, `protocol` is one of `Protocol`."""

    protocol: str
    addresses: tuple[str, ...]
    """host:port of each replica, behind the protocol's scheme where it is spoken to by TLS."""
    server_model_name: str = ""
    """Empty: the mesh's own name for the model."""
    server_model_version: str = ""
    """Empty: the server's choice."""
    signature_name: str = ""
    """Empty: the server's default."""
    schema: ModelSchema | None = None
    """What it takes and gives, of a version that is not registered. None: what the server states."""
    credentials: str = ""
    """The name of a token of the model's team, which is shown to the servers; empty: none is."""

    @property
    def speaks(self) -> Protocol:
        """The protocol. Only of what was checked."""
        return Protocol(self.protocol)


def violations_of(external: ExternalBackend) -> Iterator[FieldViolation]:
    """All that is wrong with what was asked for."""
    field = "external_backend"
    known = external.protocol in tuple(Protocol)
    if not known:
        yield _wrong(f"{field}.protocol", external.protocol, "one of " + ", ".join(Protocol))
    if not 1 <= len(external.addresses) <= ADDRESSES_MAX:
        yield _wrong(f"{field}.addresses", len(external.addresses), f"1 to {ADDRESSES_MAX} addresses")
    for number, address in enumerate(external.addresses):
        match = _ADDRESS.fullmatch(address)
        if match is None or int(match["port"]) > _PORT_MAX:
            yield _wrong(f"{field}.addresses[{number}]", address, _ADDRESS_FORM)
        elif known and match["scheme"] not in (None, external.speaks.scheme):
            allowed = f"with {external.protocol}, host:port, or {external.speaks.scheme}host:port for TLS"
            yield _wrong(f"{field}.addresses[{number}]", address, allowed)
    if len({ServerAddress.of(one).host_port for one in external.addresses}) < len(external.addresses):
        yield _wrong(f"{field}.addresses", list(external.addresses), "each address once")
    for name in ("server_model_name", "server_model_version", "signature_name"):
        value = getattr(external, name)
        if len(value) > _NAME_LENGTH_MAX or not value.isprintable():
            yield _wrong(f"{field}.{name}", value, f"at most {_NAME_LENGTH_MAX} printable characters")
    if external.signature_name and known and not external.speaks.of_tensorflow:
        yield _wrong(
            f"{field}.signature_name", external.signature_name, "empty: only TensorFlow Serving has signatures"
        )
    if external.credentials:
        yield from _credentials(external, f"{field}.credentials")
    if external.schema is not None and not (external.schema.inputs and external.schema.outputs):
        yield _wrong(f"{field}.schema", "incomplete", "at least one input and one output")


def check_hosts(external: ExternalBackend, allowed: tuple[str, ...]) -> None:
    """Raises PERMISSION_DENIED where an address is on none of these hosts, which may hold wildcards."""
    for address in external.addresses:
        host = ServerAddress.of(address).host_port.rpartition(":")[0]
        if not any(fnmatchcase(host.lower(), pattern.lower()) for pattern in allowed):
            listed = ", ".join(allowed) or "none yet"
            raise MeshError(
                Reason.PERMISSION_DENIED,
                f"external_backend.addresses names {shown(host)}, and teams may name servers on these hosts alone: "
                f"{listed}; ask an operator of the mesh to add it (INFERMESH_DEPLOYER_EXTERNAL_HOSTS)",
                metadata={"host": host},
            )


def fingerprint(external: ExternalBackend, schema: ModelSchema) -> str:
    """Tells what a server was proven for from anything else. Its addresses do not matter: each is proven by itself."""
    parts = (
        external.protocol,
        external.server_model_name,
        external.server_model_version,
        external.signature_name,
        repr(schema),
        *([external.credentials] if external.credentials else []),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def check_stated(stated: ModelSchema, schema: ModelSchema, *, address: str) -> None:
    """Raises SCHEMA_MISMATCH, with all that differs, where a server's model is not the one that the version is. The
    batch is left out of both. A server may give more than is asked for."""
    problems = [
        *_differences("input", stated.inputs, schema.inputs),
        *_differences("output", stated.outputs, schema.outputs),
    ]
    wanted = {spec.name for spec in schema.inputs}
    problems += [f"it takes input {spec.name!r} too" for spec in stated.inputs if spec.name not in wanted]
    if problems:
        raise MeshError(
            Reason.SCHEMA_MISMATCH,
            f"the model at {address} is not what the version's schema says: {'; '.join(problems)}; name another model "
            "of that server (server_model_name, server_model_version, signature_name), or deploy a version with its "
            "schema",
            metadata={"server": address},
        )


def batched(name: str, shape: tuple[int, ...], *, address: str) -> tuple[int, ...]:
    """The shape of one row, of a shape that begins with the batch. Raises SCHEMA_REQUIRED where it does not."""
    if not shape or shape[0] != -1:
        raise MeshError(
            Reason.SCHEMA_REQUIRED,
            f"{address} states the shape {list(shape)} for {name!r}, whose first dimension is not -1, and requests are "
            "joined along it; state the schema in external_backend.schema, or deploy a registered version",
            metadata={"server": address},
        )
    return shape[1:]


def no_schema(address: str) -> MeshError:
    """The server does not say what its model takes and gives."""
    return MeshError(
        Reason.SCHEMA_REQUIRED,
        f"the server at {address} does not state what its model takes and gives, and the version is not registered; "
        "state it in external_backend.schema, or deploy a registered version",
        metadata={"server": address},
    )


def _credentials(external: ExternalBackend, field: str) -> Iterator[FieldViolation]:
    if not NAME.fullmatch(external.credentials):
        yield _wrong(field, external.credentials, 'at most 63 of letters, digits, ".", "_" and "-"')
    if not all(ServerAddress.of(address).tls for address in external.addresses):
        allowed = f"empty unless every address is with TLS, behind {HTTPS} or {GRPCS}: others on the way could read it"
        yield _wrong(field, external.credentials, allowed)


def _differences(kind: str, stated: tuple[TensorSpec, ...], wanted: tuple[TensorSpec, ...]) -> Iterator[str]:
    there = {spec.name: spec for spec in stated}
    for spec in wanted:
        found = there.get(spec.name)
        if found is None:
            yield f"it has no {kind} {spec.name!r}, but {', '.join(sorted(there)) or 'none'}"
        elif found.data_type is not spec.data_type:
            yield f"{kind} {spec.name!r} is {found.data_type} where the version has {spec.data_type}"
        elif not _fits(found.shape, spec.shape):
            yield f"{kind} {spec.name!r} has rows of shape {list(found.shape)} where the version has {list(spec.shape)}"


def _fits(stated: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(stated) == len(wanted) and all(a == b or -1 in {a, b} for a, b in zip(stated, wanted, strict=True))


def _wrong(field: str, value: object, allowed: str) -> FieldViolation:
    return FieldViolation(field, f"is {shown(value)}; allowed: {allowed}")
