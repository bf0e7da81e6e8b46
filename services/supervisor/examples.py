"""The lines that a person is shown once the mesh stands: four clients, each of which works when pasted."""

import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from services.supervisor.ports import MeshPorts
from services.supervisor.settings import ROOT

DIGITS = ROOT / ".build" / "digits"
"""What `make setup` trained: two versions of the model, samples, a file for a batch job."""


def lines_to_try(
    ports: MeshPorts, *, key: bool = False, tls: bool = False, authority: Path | None = None
) -> Sequence[tuple[str, str]]:
    """What each does, and the command.

    `key`: callers need one, which is in INFERMESH_API_KEY. `tls`: the gateway speaks it, with a certificate that
    `authority` signed where that is given.
    """
    address = f"127.0.0.1:{ports.gateway}"
    body = orjson.dumps({"instances": [{"X": _pixels()}]}).decode()
    python, buf, infermesh = (_shown(Path(sys.executable).parent / name) for name in ("python", "buf", "infermesh"))
    # In double quotes: the shell puts the key in.
    bearer = ' -H "authorization: Bearer $INFERMESH_API_KEY"' if key else ""
    url = f"https://{address}" if tls else f"http://{address}"
    trust = f" --cacert {_shown(authority)}" if authority else ""
    post = f"{url}/v1/models/digits/predict{bearer} -H 'content-type: application/json' -d '{body}'"
    rest = ("REST: a prediction", f"curl -s{trust} {post}")
    if tls:
        trusted = f"INFERMESH_CA_FILE={_shown(authority)} " if authority else ""
        return (rest, ("The command line, over TLS", f"{trusted}{infermesh} status --gateway {url}"))
    reflected = bearer.replace("-H", "--reflect-header")
    listing = f"{buf} curl --protocol grpc --http2-prior-knowledge{reflected} --list-methods {url}"
    return (
        rest,
        ("gRPC: a typed prediction", f"{python} -m examples.clients.typed_grpc {address}"),
        ("Open Inference Protocol: tritonclient as it comes", f"{python} -m examples.clients.open_inference {address}"),
        ("Reflection: every public service", listing),
    )


def _pixels() -> list[int]:
    samples = orjson.loads((DIGITS / "samples.json").read_bytes())
    return [int(pixel) for pixel in samples[0]["instance"]["X"]]


def _shown(path: Path) -> str:
    """As one would type it in the clone."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
