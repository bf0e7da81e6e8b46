"""The chart as helm renders it: as objects, and as what helm says where it refuses."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "infermesh"
VALUES = ROOT / "tests" / "data" / "chart"
VARIANTS = tuple(sorted(path.stem for path in VALUES.glob("*.yaml")))
"""Installations, each a file of values."""
RELEASE, NAMESPACE = "infermesh", "mesh"
_TIMEOUT_S = 30

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Container:
    """A container of the chart, with where it is."""

    workload: Manifest
    spec: Manifest
    init: bool

    @property
    def component(self) -> str:
        """Of the workload, as its labels have it."""
        return str(self.workload["metadata"]["labels"]["app.kubernetes.io/component"])

    @property
    def name(self) -> str:
        """component/container."""
        return f"{self.component}/{self.spec['name']}"

    @property
    def environment(self) -> Mapping[str, str]:
        """Its variables, with something that fits where they come out of a Secret or of the pod."""
        return {one["name"]: _value(one) for one in self.spec.get("env", ())}


def helm() -> str:
    """The binary: what INFERMESH_TEST_HELM names, else that of `make setup`, else the system's. Skips without one."""
    named = os.environ.get("INFERMESH_TEST_HELM", "")
    own = ROOT / ".build" / "helm" / "helm"
    found = named or (str(own) if own.is_file() else shutil.which("helm"))
    if not found:
        pytest.skip("there is no helm: `make setup` installs one, or INFERMESH_TEST_HELM names it")
    return found


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What helm did."""
    return subprocess.run([helm(), *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)


@cache
def rendered(variant: str) -> Sequence[Manifest]:
    """The objects of an installation. Nobody may change them."""
    done = run_helm("template", RELEASE, str(CHART), "-n", NAMESPACE, "-f", str(VALUES / f"{variant}.yaml"))
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def refusal(values: str, tmp_path: Path, variant: str = "minimal") -> str:
    """What helm says of these further values, which it must refuse."""
    file = tmp_path / "values.yaml"
    file.write_text(values)
    base = str(VALUES / f"{variant}.yaml")
    done = run_helm("template", RELEASE, str(CHART), "-n", NAMESPACE, "-f", base, "-f", str(file))
    assert done.returncode != 0, "helm takes it"
    return done.stderr


def of_kind(manifests: Sequence[Manifest], *kinds: str) -> list[Manifest]:
    """Those of these kinds."""
    return [one for one in manifests if one["kind"] in kinds]


def workloads(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Whatever has pods."""
    return of_kind(manifests, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def pod_of(workload: Manifest) -> Manifest:
    """The spec of its pods."""
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def containers(manifests: Sequence[Manifest]) -> Iterator[Container]:
    """All of all pods."""
    for workload in workloads(manifests):
        pod = pod_of(workload)
        for one in pod.get("initContainers", ()):
            yield Container(workload, one, init=True)
        for one in pod["containers"]:
            yield Container(workload, one, init=False)


def component_of(manifest: Manifest) -> str:
    """As its labels have it."""
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def _value(variable: Manifest) -> str:
    if "value" in variable:
        return str(variable["value"])
    source = variable["valueFrom"]
    if "secretKeyRef" in source:
        return "redis://cache:6379/0" if "REDIS" in variable["name"] else "postgresql+psycopg://u:p@database:5432/mesh"
    return {"metadata.name": "pod-0", "metadata.namespace": NAMESPACE, "spec.nodeName": "node-1"}[
        source["fieldRef"]["fieldPath"]
    ]
