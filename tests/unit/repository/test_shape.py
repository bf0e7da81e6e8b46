"""The repository keeps its shape: small files, small processes, nothing unfinished, no binaries but samples."""

import ast
import re
import statistics
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LINES_MAX = 500
LINES_MEDIAN_MAX = 150
MAIN_LINES_MAX = 40
SAMPLES = ROOT / "tests" / "data"
RECORDED = ROOT / "benchmarks" / "recorded"
"""Files that tests read as they are: artifacts of frameworks are binary by nature."""
SAMPLE_BYTES_MAX = 128 * 1024


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists()]


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


@pytest.fixture(scope="module")
def modules() -> list[Path]:
    found = tracked("services/*.py", "clients/*.py", "tests/*.py", "benchmarks/*.py", "tools/*.py", "examples/*.py")
    assert found
    return found


def test_no_file_is_large(modules: list[Path]) -> None:
    files = [*modules, *tracked("services/*.c", "services/*.h")]
    assert {str(path.relative_to(ROOT)): lines(path) for path in files if lines(path) > LINES_MAX} == {}


def test_most_files_are_small(modules: list[Path]) -> None:
    assert statistics.median(lines(path) for path in modules if lines(path)) < LINES_MEDIAN_MAX


def test_a_process_starts_in_a_few_lines() -> None:
    mains = tracked("services/*/__main__.py")
    assert mains
    assert {str(path): lines(path) for path in mains if lines(path) > MAIN_LINES_MAX} == {}


def test_nothing_is_left_unfinished(modules: list[Path]) -> None:
    # Written in two halves, so that this file does not find itself.
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "X" * 3 + r"\b", "NotImplemented" + "Error")))
    assert [str(path) for path in modules if marks.search(path.read_text())] == []


def test_no_binary_is_tracked_but_samples() -> None:
    source = [path for path in tracked() if not {SAMPLES, RECORDED} & set(path.parents)]
    assert len(source) > 100
    assert [str(path) for path in source if b"\0" in path.read_bytes()[:8000]] == []


def test_samples_are_small() -> None:
    samples = [path for path in tracked() if SAMPLES in path.parents]
    assert samples
    assert {str(path): path.stat().st_size for path in samples if path.stat().st_size > SAMPLE_BYTES_MAX} == {}


def test_every_public_module_says_what_it_is(modules: list[Path]) -> None:
    texts = {path: path.read_text() for path in modules}
    silent = [path for path, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))]
    assert [str(path.relative_to(ROOT)) for path in silent] == []
