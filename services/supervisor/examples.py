"""The lines that a person is shown once the mesh stands: four clients, each of which works when pasted."""

import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from services.supervisor.ports import MeshPorts
from services.supervisor.settings import ROOT

DIGITS = ROOT / ".build" / "digits"
"""What `make setup` trained: two versions of the model, samples, a file for a batch job."""


def lines_to_try(ports: MeshPorts) -> Sequence[tuple[str, str]]:
    """What each does, and the command."""
    gateway = f"127.0.0.1:{ports.gateway}"
    body = orjson.dumps({"instances": [{"X": _pixels()}]}).decode()
    python, buf = (_shown(Path(sys.executable).parent / name) for name in ("python", "buf"))
    return (
        (
            "REST: a prediction",
            f"curl -s http://{gateway}/v1/models/digits/predict -H 'content-type: application/json' -d '{body}'",
        ),
        ("gRPC: a typed prediction", f"{python} -m examples.clients.typed_grpc {gateway}"),
        ("Open Inference Protocol: tritonclient as it comes", f"{python} -m examples.clients.open_inference {gateway}"),
        (
            "Reflection: every public service",
            f"{buf} curl --protocol grpc --http2-prior-knowledge --list-methods http://{gateway}",
        ),
    )


def _pixels() -> list[int]:
    samples = orjson.loads((DIGITS / "samples.json").read_bytes())
    return [int(pixel) for pixel in samples[0]["instance"]["X"]]


def _shown(path: Path) -> str:
    """As one would type it in the clone."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)
