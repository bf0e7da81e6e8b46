"""Makes a key of an operator of the mesh and prints it, once: for operators who have none or have lost theirs. It lists
the keys of operators and ends them, too.

    python -m services.registry.operator_key NAME [--days N]
    python -m services.registry.operator_key --list
    python -m services.registry.operator_key --revoke KEY_ID

It asks a registry that runs on this machine, past the gateway: whoever is on the machine may have a key.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import timedelta

from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.common.clock import Clock, SystemClock
from services.common.errors import MeshError
from services.common.grpc.channel import open_channel
from services.common.grpc.tls import PeerTls

_DAYS_MAX = 36_500
_PAGE = 1000


async def make_key(address: str, name: str, *, days: int, tls_dir: str, clock: Clock) -> str:
    """The secret of a new key that ends after so many days; 0: never. Raises MeshError."""
    request = team_service_pb2.CreateOperatorKeyRequest(name=name)
    if days:
        request.expires_at.FromDatetime(clock.now() + timedelta(days=days))
    channel = open_channel(address, tls=PeerTls.in_folder(tls_dir))
    try:
        made = await team_service_pb2_grpc.TeamServiceStub(channel).CreateOperatorKey(request)
    finally:
        await channel.close(None)
    return str(made.secret)


async def list_keys(address: str, *, tls_dir: str) -> Sequence[str]:
    """A line for each operator's key, newest first: id, name, end and state, with tabs between. Raises MeshError."""
    channel = open_channel(address, tls=PeerTls.in_folder(tls_dir))
    lines: list[str] = []
    try:
        asked = team_service_pb2.ListApiKeysRequest(page_size=_PAGE)
        while True:
            page = await team_service_pb2_grpc.TeamServiceStub(channel).ListApiKeys(asked)
            for key in page.api_keys:
                ends = key.expires_at.ToJsonString() if key.HasField("expires_at") else "never"
                state = "revoked" if key.HasField("revoked_at") else "in force"
                lines.append(f"{key.key_id}\t{key.name}\t{ends}\t{state}")
            asked.page_token = page.next_page_token
            if not asked.page_token:
                return lines
    finally:
        await channel.close(None)


async def revoke_key(address: str, key_id: str, *, tls_dir: str) -> None:
    """Ends a key of an operator. Raises MeshError."""
    request = team_service_pb2.RevokeApiKeyRequest(key_id=key_id, reason="by hand, on the machine")
    channel = open_channel(address, tls=PeerTls.in_folder(tls_dir))
    try:
        await team_service_pb2_grpc.TeamServiceStub(channel).RevokeApiKey(request)
    finally:
        await channel.close(None)


def main(arguments: list[str]) -> int:
    """Prints the key to standard output, or one sentence to standard error. The exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.registry.operator_key", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", help="what the key is for, for instance the operator's name")
    what.add_argument("--list", action="store_true", help="list operators' keys")
    what.add_argument("--revoke", metavar="KEY_ID", help="end an operator's key")
    parser.add_argument("--days", type=int, default=0, help="days until it ends (default: it does not)")
    parser.add_argument(
        "--address",
        default="127.0.0.1:" + os.environ.get("INFERMESH_REGISTRY_PORT", "8101"),
        help="host:port of the registry (default: %(default)s)",
    )
    parser.add_argument(
        "--tls-dir",
        default=os.environ.get("INFERMESH_REGISTRY_TLS_DIR", ""),
        help="folder with ca.crt, tls.crt and tls.key, where the registry asks for them",
    )
    asked = parser.parse_args(arguments)
    if not 0 <= asked.days <= _DAYS_MAX:
        parser.error(f"--days is {asked.days}; allowed: 0 to {_DAYS_MAX}, 0 for no end")
    try:
        _carry_out(asked)
    except MeshError as error:
        sys.stderr.write(f"nothing was done: {error.message}\n")
        return 1
    return 0


def _carry_out(asked: argparse.Namespace) -> None:
    if asked.list:
        for line in asyncio.run(list_keys(asked.address, tls_dir=asked.tls_dir)):
            sys.stdout.write(line + "\n")
        return
    if asked.revoke is not None:
        asyncio.run(revoke_key(asked.address, asked.revoke, tls_dir=asked.tls_dir))
        sys.stderr.write("the key is revoked; gateways refuse it within a second\n")
        return
    secret = asyncio.run(
        make_key(asked.address, asked.name, days=asked.days, tls_dir=asked.tls_dir, clock=SystemClock())
    )
    sys.stderr.write("the key is shown this once; send it as authorization: Bearer KEY\n")
    sys.stdout.write(secret + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
