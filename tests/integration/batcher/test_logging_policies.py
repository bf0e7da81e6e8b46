"""Logging policies over a real batcher process: in force at once, and after a restart without a monitor."""

import json
from pathlib import Path

from infermesh.monitor.v1 import inference_log_pb2, logging_policy_service_pb2, prediction_log_pb2

from services.supervisor.ports import free_ports
from tests.support.batcher_faces_calls import asking, digits_request
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually

KEPT = "logging_policies.bin"


def policies(
    *told: inference_log_pb2.LoggingPolicy, full: bool = True
) -> logging_policy_service_pb2.WatchLoggingPoliciesResponse:
    return logging_policy_service_pb2.WatchLoggingPoliciesResponse(policies=told, full=full)


def policy(*redacted: str, version: str = "", rate: float = 1.0) -> inference_log_pb2.LoggingPolicy:
    return inference_log_pb2.LoggingPolicy(
        model_name="digits",
        version=version,
        sample_rate=rate,
        log_input_hash=True,
        log_output=True,
        redacted_fields=redacted,
    )


def logged(monitor: FakeMonitor) -> dict[str, tuple[bytes, str]]:
    """Hash and output by request id."""
    found: dict[str, tuple[bytes, str]] = {}
    for group in monitor.groups():
        found.update(_of(group))
    return found


def _of(group: prediction_log_pb2.PredictionGroup) -> dict[str, tuple[bytes, str]]:
    size = len(group.request_ids)
    hashes, outputs = list(group.request_input_hashes) or [b""] * size, list(group.request_outputs) or [""] * size
    return {name: (hashes[place], outputs[place]) for place, name in enumerate(group.request_ids)}


async def test_policies_hold_as_soon_as_they_are_told_and_after_a_restart_without_the_monitor(tmp_path: Path) -> None:
    router, monitor = FakeRouter(full_table(served_model("v1.0.0"))), FakeMonitor()
    async with serving(router=router, monitor=monitor) as neighbours:
        part = batcher_part(tmp_path, router=neighbours, monitor=neighbours)
        async with running(part), asking(part) as stub:
            number = 0

            async def asked() -> str:
                nonlocal number
                number += 1
                name = f"asked-{number}"
                await stub.Predict(digits_request(request_id=name, label=3.0), timeout=10)
                await eventually(lambda: name in logged(monitor), what=f"{name} is logged")
                return logged(monitor)[name][1]

            assert await asked() == ""
            await monitor.policies.put(policies(policy("probabilities")))
            await eventually((tmp_path / "data" / KEPT).exists, what="the policy is on disk")
            assert json.loads(await asked()) == {"label": [3], "probabilities": "[redacted]"}
            before = (tmp_path / "data" / KEPT).read_bytes()
            await monitor.policies.put(policies(policy("label", version="v1.0.0"), full=False))
            await eventually(lambda: (tmp_path / "data" / KEPT).read_bytes() != before, what="the newer one is on disk")
            output = json.loads(await asked())
            assert (output["label"], len(output["probabilities"][0])) == ("[redacted]", 10)

    late, [port] = FakeMonitor(), free_ports(1)
    part = batcher_part(tmp_path, monitor=f"127.0.0.1:{port}")
    async with running(part), asking(part) as stub:
        await stub.Predict(digits_request(request_id="alone", label=3.0), timeout=10)
        # It never says a word about policies.
        async with serving(monitor=late, port=port):
            await eventually(lambda: "alone" in logged(late), what="what was held is handed over")
    digest, text = logged(late)["alone"]
    assert len(digest) == 32
    assert json.loads(text)["label"] == "[redacted]"
