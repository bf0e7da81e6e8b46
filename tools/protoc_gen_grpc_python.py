"""The gRPC half of grpcio-tools as a protoc plugin, so that buf can run it: a CodeGeneratorRequest in, files out."""

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2


def main() -> None:
    """Reads the request from standard input and writes the response to standard output, as protoc asks of plugins."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    wanted = set(request.file_to_generate)
    with_services = [file.name for file in request.proto_file if file.name in wanted and file.service]
    if with_services:
        with tempfile.TemporaryDirectory() as folder:
            descriptors = Path(folder, "descriptors.binpb")
            descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=request.proto_file).SerializeToString())
            out = Path(folder, "out")
            out.mkdir()
            protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={descriptors}"]
            subprocess.run([*protoc, f"--grpc_python_out={out}", *with_services], check=True, stdout=sys.stderr)
            for path in sorted(out.rglob("*.py")):
                response.file.add(name=str(path.relative_to(out)), content=path.read_text())
    sys.stdout.buffer.write(response.SerializeToString())


main()
