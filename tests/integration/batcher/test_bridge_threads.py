"""The bridge's C between threads, as fast as they go, over doubles of Envoy and Python (`tests/support/native`).

In a real Envoy two threads meet in the few instructions where one could miss the other once in millions of requests;
here they do so all the time.
"""

import subprocess
from pathlib import Path

import pytest

from tests.support.compilers import compilers

ROOT = Path(__file__).resolve().parents[3]
NATIVE = ROOT / "services" / "batcher" / "bridge" / "native"
DOUBLES = ROOT / "tests" / "support" / "native" / "bridge_threads.c"

RUN_TIMEOUT_S = 240
"""A net: the program itself fails where one request has no answer within ten seconds. Its 15 s of computing take three
times as long beside other tests."""


@pytest.mark.timeout(300)
def test_every_request_is_answered_once_or_given_up_whichever_threads_meet(tmp_path: Path) -> None:
    program = tmp_path / "bridge_threads"
    options = ["-O2", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{NATIVE}"]
    sources = [str(DOUBLES), str(NATIVE / "filter.c"), str(NATIVE / "stream.c")]
    said = "no compiler"
    for compiler in compilers():
        compiled = subprocess.run(
            [*compiler, *options, "-o", str(program), *sources], capture_output=True, text=True, timeout=50, check=False
        )
        said = compiled.stderr
        if compiled.returncode == 0:
            break
    else:
        raise AssertionError(said)
    run = subprocess.run([str(program)], capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
