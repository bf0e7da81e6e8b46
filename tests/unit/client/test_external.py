"""What `infermesh deploy --external …` asks for."""

import json

import pytest
import typer
from infermesh.client.cli.external import parse_external
from infermesh.common.v1 import schema_pb2
from infermesh.deployer.v1 import deployment_pb2

SCHEMA = {
    "inputs": [{"name": "x", "data_type": "DATA_TYPE_FP32", "shape": [3]}],
    "outputs": [{"name": "y", "data_type": "DATA_TYPE_INT64"}],
}


def test_nothing_said_is_no_external_server() -> None:
    assert parse_external("") is None


def test_each_option_arrives() -> None:
    backend = parse_external(
        "tensorflow-grpc=grpcs://a:1, grpcs://[::1]:2",
        model="m",
        version="3",
        signature="s",
        credentials="token",
        schema=json.dumps(SCHEMA),
    )
    assert backend == deployment_pb2.ExternalBackend(
        protocol="tensorflow-grpc",
        addresses=["grpcs://a:1", "grpcs://[::1]:2"],
        server_model_name="m",
        server_model_version="3",
        signature_name="s",
        credentials="token",
        schema=schema_pb2.ModelSchema(
            inputs=[schema_pb2.TensorSpec(name="x", data_type=schema_pb2.DATA_TYPE_FP32, shape=[3])],
            outputs=[schema_pb2.TensorSpec(name="y", data_type=schema_pb2.DATA_TYPE_INT64)],
        ),
    )


@pytest.mark.parametrize("servers", ["a:1", "=a:1", "oip-rest=", "oip-rest=,"])
def test_what_names_no_server_says_how_to(servers: str) -> None:
    with pytest.raises(typer.BadParameter, match="PROTOCOL=HOST:PORT"):
        parse_external(servers)


def test_which_of_its_models_takes_a_server() -> None:
    with pytest.raises(typer.BadParameter, match="name the server, too"):
        parse_external("", model="m")
    with pytest.raises(typer.BadParameter, match="name the server, too"):
        parse_external("", credentials="token")


@pytest.mark.parametrize("schema", ['{"inputs": [{"name": "x", "data_type": "FP32"}]}', '{"input": []}', "[]"])
def test_what_is_no_schema_says_how_one_looks(schema: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_external("torchserve=a:1", schema=schema)
