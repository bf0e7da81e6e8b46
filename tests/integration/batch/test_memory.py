"""A job takes the same memory whatever its files' sizes: far less than they have."""

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_job_takes_far_less_memory_than_its_input_has(kind: str) -> None:
    """One row group holds the whole file of Parquet. A column of nearly the input's size is copied."""
    asked = [sys.executable, "-m", "benchmarks.batch_memory", "--gb", "0.6", "--format", kind]
    done = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=55)
    figures = json.loads(done.stdout)
    assert figures["rows"] == 1_200_000
    assert figures["input_mb"] > 590
    # Of that some 85 MB are what is loaded before the first row is read.
    assert figures["peak_mb"] < 420, figures
