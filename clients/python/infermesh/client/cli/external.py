"""How the command's options name servers that already run."""

import typer
from google.protobuf import json_format
from infermesh.client.cli.documents import read_document
from infermesh.common.v1 import schema_pb2
from infermesh.deployer.v1 import deployment_pb2

_EXAMPLE = (
    "PROTOCOL=HOST:PORT, for instance oip-grpc=10.0.0.7:8081 or, by TLS, oip-rest=https://models.example:443; more "
    "addresses follow behind commas"
)


def parse_external(
    servers: str, *, model: str = "", version: str = "", signature: str = "", credentials: str = "", schema: str = ""
) -> deployment_pb2.ExternalBackend | None:
    """None where no servers are named. Raises typer.BadParameter."""
    if not servers:
        if model or version or signature or credentials or schema:
            raise typer.BadParameter("this says how an external server is asked for a model; name the server, too")
        return None
    protocol, _, addresses = servers.partition("=")
    listed = [address.strip() for address in addresses.split(",") if address.strip()]
    if not protocol or not listed:
        raise typer.BadParameter(f"{servers!r} names no server; say {_EXAMPLE}", param_hint="--external")
    backend = deployment_pb2.ExternalBackend(
        protocol=protocol.strip(),
        addresses=listed,
        server_model_name=model,
        server_model_version=version,
        signature_name=signature,
        credentials=credentials,
    )
    if schema:
        backend.schema.CopyFrom(_schema(schema))
    return backend


def _schema(argument: str) -> schema_pb2.ModelSchema:
    try:
        return json_format.ParseDict(read_document(argument, "--schema"), schema_pb2.ModelSchema())
    except json_format.ParseError as error:
        raise typer.BadParameter(
            f'{error}; say {{"inputs": [{{"name": "x", "data_type": "DATA_TYPE_FP32", "shape": [3]}}], '
            '"outputs": [...]}',
            param_hint="--schema",
        ) from None
