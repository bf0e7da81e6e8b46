"""The OpenAPI document of all public services as a protoc plugin, so that buf makes it with the other generated code.

It is written beside the stubs, in infermesh/openapi.json, and the router serves it.
"""

import json
import sys

from google.protobuf.compiler import plugin_pb2

from tools.openapi_document import document

NAME = "infermesh/openapi.json"


def main() -> None:
    """Reads the request from standard input and writes the response to standard output, as protoc asks of plugins."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    files = sorted(request.proto_file, key=lambda file: file.name)
    response.file.add(name=NAME, content=rendered(document(files)))
    sys.stdout.buffer.write(response.SerializeToString())


def rendered(value: object) -> str:
    """The text of a document: a line for each value, so that a change of the API is a readable difference."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=dict) + "\n"


if __name__ == "__main__":
    main()
