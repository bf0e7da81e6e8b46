"""Makes a key of an operator of the mesh and prints it, once: for operators who have none or have lost theirs.

    python -m services.registry.operator_key NAME [--days N]

It asks a registry that runs on this machine, past the gateway: whoever is on the machine may have a key.
"""

import argparse
import asyncio
import os
import sys
from datetime import timedelta

from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.common.clock import Clock, SystemClock
from services.common.errors import MeshError
from services.common.grpc.channel import open_channel
from services.common.grpc.tls import PeerTls

_DAYS_MAX = 36_500


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


def main(arguments: list[str]) -> int:
    """Prints the key to standard output, or one sentence to standard error. The exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.registry.operator_key", description=__doc__)
    parser.add_argument("name", help="what the key is for, for instance the operator's name")
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
        secret = asyncio.run(
            make_key(asked.address, asked.name, days=asked.days, tls_dir=asked.tls_dir, clock=SystemClock())
        )
    except MeshError as error:
        sys.stderr.write(f"no key was made: {error.message}\n")
        return 1
    sys.stderr.write("the key is shown this once; send it as authorization: Bearer KEY\n")
    sys.stdout.write(secret + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
