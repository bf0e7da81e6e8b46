"""`python -m benchmarks.gpu`: benchmarks/README.md says what it needs and how to read it."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx
import orjson
from rich.console import Console

from benchmarks.gpu.results import Results
from benchmarks.gpu.run import bench
from benchmarks.load import LoadFailedError
from benchmarks.payloads import WrongAnswerError
from services.supervisor.process import PartFailedError
from services.supervisor.settings import ROOT

_WIDTH_MIN = 160
"""Of the tables, in columns."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options. Exits with a sentence where one is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="See benchmarks/README.md.")
    default = ROOT / ".build" / "bench" / "gpu-env" / "bin" / "python"
    parser.add_argument("--python", type=Path, default=default, help="what models run in (%(default)s)")
    parser.add_argument("--kind", choices=("gpu", "cpu"), default="gpu", help="of Triton's instances (gpu)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (3)")
    parser.add_argument("--callers", type=_counts, default=(8, 64, 256), help="loads of the closed loop (8,64,256)")
    parser.add_argument("--unbatched", type=_counts, default=(64, 256), help="at which of them none is asked too")
    parser.add_argument("--quick", action="store_true", help="fewer settings of bare Triton")
    parser.add_argument("--layers", type=int, default=12, help="of the encoder (12)")
    parser.add_argument("--hidden", type=int, default=768, help="its width, a multiple of 64 (768)")
    parser.add_argument("--rows-max", type=int, default=128, help="the largest batch (128)")
    parser.add_argument("--eager", action="store_true", help="PyTorch launches kernel by kernel, without CUDA's graphs")
    parser.add_argument("--folder", type=Path, help="where servers keep their logs; by default a folder that goes")
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """0 when everything was measured, whatever the verdicts; 1 when something failed."""
    arguments, console, results = parse(argv), Console(), Results()
    console = Console(width=max(console.width, _WIDTH_MIN))
    with tempfile.TemporaryDirectory(prefix="infermesh-gpu-") as name:
        folder = arguments.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            asyncio.run(bench(arguments, console, folder, results))
        except (LoadFailedError, PartFailedError, WrongAnswerError, httpx.HTTPError) as error:
            console.print(f"[red]{error}[/]")
            return 1
        finally:
            if arguments.json is not None:
                arguments.json.write_bytes(orjson.dumps(results.document(), option=orjson.OPT_INDENT_2))
    results.show(console)
    return 0


def _counts(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(part) for part in text.split(",")}))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
