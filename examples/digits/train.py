"""Trains two versions of a classifier on scikit-learn's handwritten digits and exports them to ONNX.

Run it in the serving environment: `.venv-serving/bin/python examples/digits/train.py --out DIR`. It writes into DIR

- `digits-v1.0.0.onnx`, `digits-v1.1.0.onnx`: input `X` FP32 [N, 64] (pixels 0 to 16, row by row), outputs `label`
  INT64 [N] and `probabilities` FP32 [N, 10];
- `digits-v1.0.0.json`, `digits-v1.1.0.json`: what registering needs, the accuracy on held-out data included;
- `samples.json`: some held-out instances, with the true digit and what each version answers;
- `holdout.jsonl`: every held-out instance, a key and its true digit, one JSON object a line, for batch jobs;
- `manifest.json`: what the files were made from and their digests. It is written last, so a run that was interrupted is
  repeated and one that is complete is skipped.

The same libraries give the same bytes (recipes.py says why that matters), so the training date is an argument and not
the clock. A run when nothing changed takes some 0.1 s.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

MANIFEST = "manifest.json"
LIBRARIES = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx")


def origin(training_date: str) -> dict[str, object]:
    """Everything that the files depend on. When it changes, they are made anew."""
    return {
        "recipes_sha256": hashlib.sha256(Path(__file__).with_name("recipes.py").read_bytes()).hexdigest(),
        "training_date": training_date,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "libraries": {name: version(name) for name in LIBRARIES},
    }


def is_current(folder: Path, wanted: dict[str, object]) -> bool:
    """Whether the folder holds complete, undamaged files made from exactly this origin."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return manifest["origin"] == wanted and all(
            hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
            for name, digest in manifest["sha256"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write(folder: Path, files: dict[str, bytes], wanted: dict[str, object]) -> None:
    """Writes each file whole or not at all, the manifest last; an old manifest is taken away first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = json.dumps({"origin": wanted, "sha256": digests}, indent=2).encode() + b"\n"
    for name, content in [*files.items(), (MANIFEST, manifest)]:
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(folder / name)


def main() -> None:
    """Parses the arguments, and trains unless the folder is current."""
    parser = argparse.ArgumentParser(description="Train and export two versions of the digits classifier.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument(
        "--training-date",
        type=date.fromisoformat,
        default=date(2026, 2, 1),
        help="the ISO date to write into the metadata; fixed by default so that the files are reproducible",
    )
    arguments = parser.parse_args()
    wanted = origin(str(arguments.training_date))
    if is_current(arguments.out, wanted):
        print(f"digits: up to date in {arguments.out}")
        return
    # Imported only now: the frameworks take seconds to load, and most runs end on the line above.
    from recipes import build  # noqa: PLC0415

    write(arguments.out, build(str(arguments.training_date)), wanted)


if __name__ == "__main__":
    main()
