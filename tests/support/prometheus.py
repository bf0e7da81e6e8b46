"""Prometheus' own programs, fetched where this system has none."""

import subprocess
from functools import cache
from pathlib import Path

import pytest

from services.supervisor.settings import ROOT

RULES = ROOT / "deploy" / "helm" / "infermesh" / "rules"
_FETCH_TIMEOUT_S = 300


@cache
def program(name: str) -> Path:
    """ "promtool" or "prometheus". Skips, saying why, where it can neither be found nor fetched."""
    fetch = ["sh", str(ROOT / "tools" / "debian.sh"), name, "prometheus"]
    found = subprocess.run(fetch, capture_output=True, text=True, check=False, timeout=_FETCH_TIMEOUT_S)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    return Path(found.stdout.strip())
