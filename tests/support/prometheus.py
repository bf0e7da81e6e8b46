"""Prometheus' own programs, fetched where this system has none, and Prometheus itself over a mesh."""

import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from services.supervisor.ports import MeshPorts
from services.supervisor.settings import ROOT
from tests.support.mesh import Mesh
from tests.support.parts import free_port
from tests.support.waiting import until

RULES = ROOT / "deploy" / "helm" / "infermesh" / "rules"
_FETCH_TIMEOUT_S = 300
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 30.0


@cache
def program(name: str) -> Path:
    """ "promtool" or "prometheus". Skips, saying why, where it can neither be found nor fetched."""
    fetch = ["sh", str(ROOT / "tools" / "debian.sh"), name, "prometheus"]
    found = subprocess.run(fetch, capture_output=True, text=True, check=False, timeout=_FETCH_TIMEOUT_S)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    return Path(found.stdout.strip())


SCRAPE_S = 1
"""How often a Prometheus of tests looks."""


@dataclass(frozen=True)
class Server:
    """A running Prometheus."""

    address: str

    def asked(self, path: str, **params: str | float) -> Any:
        """The data of an answer of its HTTP API. Fails with what it says where it refuses."""
        url = f"http://{self.address}/api/v1/{path}"
        answer = httpx.get(url, params=params, timeout=_ANSWER_TIMEOUT_S, trust_env=False)
        body = answer.json()
        assert body["status"] == "success", f"{params}: {body}"
        return body["data"]

    def values(self, expr: str, *, start_s: float, end_s: float) -> Sequence[float]:
        """What an expression was, of all series together, in steps of seconds: numbers alone."""
        found = self.asked("query_range", query=expr, start=start_s, end=end_s, step=2 * SCRAPE_S)
        values = [float(value) for series in found["result"] for _, value in series["values"]]
        return [value for value in values if not math.isnan(value)]

    def value(self, expr: str) -> float | None:
        """What it is now, of its one series; None where it has none."""
        found = self.asked("query", query=expr)["result"]
        assert len(found) < 2, f"{expr} has several series: {found}"
        return float(found[0]["value"][1]) if found else None

    def up(self) -> Mapping[str, str]:
        """The health of each job's target."""
        targets = self.asked("targets", state="active")["activeTargets"]
        return {target["labels"]["job"]: target["health"] for target in targets}


def config_for(mesh: Mesh, folder: Path) -> Path:
    """deploy/prometheus/prometheus.yaml for a mesh on other ports, looking every second; with the chart's rules."""
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())
    usual = {getattr(MeshPorts(), name): name for name in MeshPorts.model_fields}
    for job in config["scrape_configs"]:
        for group in job["static_configs"]:
            ports = [int(target.rpartition(":")[2]) for target in group["targets"]]
            group["targets"] = [f"127.0.0.1:{mesh.port(usual[port])}" for port in ports]
    config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    config["rule_files"] = []
    for path in sorted(RULES.glob("*.yaml")):
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            group["interval"] = f"{SCRAPE_S}s"
        (folder / path.name).write_text(yaml.safe_dump(rules))
        config["rule_files"].append(path.name)
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


@contextmanager
def running(config: Path, *features: str) -> Iterator[Server]:
    """Prometheus over that file, with its data beside it, and these experimental features."""
    port = free_port()
    with (config.parent / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={config}",
                f"--storage.tsdb.path={config.parent / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
                *([f"--enable-feature={','.join(features)}"] if features else []),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    server = Server(f"127.0.0.1:{port}")

    def ready() -> bool:
        assert process.poll() is None, (config.parent / "prometheus.log").read_text()
        return httpx.get(f"http://{server.address}/-/ready", timeout=_ANSWER_TIMEOUT_S, trust_env=False).is_success

    try:
        until(ready, within_s=_START_TIMEOUT_S, what="Prometheus is ready")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
