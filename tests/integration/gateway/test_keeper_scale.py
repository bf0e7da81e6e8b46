"""Ten thousand models through the keeper: what a change takes, what is on disk, how soon a gateway starts from that."""

import statistics
import time
from pathlib import Path

import pytest

from services.router.domain.routing import ModelRoutes
from services.supervisor.process import Process
from tests.support.envoy_gateway import running_gateway, split
from tests.support.kept_gateway import KeptGateway
from tests.support.waiting import until

MODELS = 10_000
OLD, NEW = "v1.0.0", "v2.0.0"


def models(percent: int) -> list[ModelRoutes]:
    """Model 0 is the one that changes."""
    first = split("model-0", {NEW: percent, OLD: 100 - percent}, sticky_header="x-user-id")
    return [first, *(split(f"model-{place}", {OLD: 100}) for place in range(1, MODELS))]


def memory_mb(process: Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def test_a_gateway_starts_with_ten_thousand_models_without_its_router(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_gateway(tmp_path, kind=KeptGateway) as gateway:
        before_mb = memory_mb(gateway.keeper)
        gateway.publish(*models(1))
        taken_s = []
        for percent in range(10, 60, 5):
            table = models(percent)
            began_s = time.monotonic()
            gateway.publish(*table)
            taken_s.append(time.monotonic() - began_s)
        version = f"{gateway.revision}-"
        until(
            lambda: gateway.kept_versions().get("RouteConfiguration", "").startswith(version),
            what="the newest table is on disk",
        )
        size_mb, after_mb = gateway.kept_file.stat().st_size / 1e6, memory_mb(gateway.keeper)
        gateway.do(gateway.stop_router())
        gateway.do(gateway.kill_envoy())
        began_s = time.monotonic()
        gateway.do(gateway.start_envoy())
        for place in (1, MODELS - 1):
            answer = gateway.rest("POST", f"/v1/models/model-{place}/predict", json={})
            assert answer.json()["headers"]["x-route-version"] == OLD
        started_s = time.monotonic() - began_s
        with capsys.disabled():
            print(
                f"\n{MODELS} models through the keeper: a change of one {statistics.median(taken_s) * 1000:.1f} ms; "
                f"{size_mb:.1f} MB on disk; memory {before_mb} MB, then {after_mb} MB; "
                f"a gateway without its router answers after {started_s:.2f} s"
            )
