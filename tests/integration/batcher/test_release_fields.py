"""What the serving table says for releases, over every protocol of a real batcher process: aliases, labels in the log,
retries, shadow versions; also after a restart without a router."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.api import httpbody_pb2
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from infermesh.common.v1 import serving_pb2
from infermesh.prediction.v1 import prediction_service_pb2, prediction_service_pb2_grpc

from services.supervisor.parts.part import Part
from tests.support.batcher_faces_calls import address_of, asking, digits_request
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually

TIMEOUT_S = 10.0
NEW = "v1.1.0"


def released() -> serving_pb2.ServedModel:
    """v1.0.0 answers by default; v1.1.0 is the champion and gets copies of everything."""
    model = served_model("v1.0.0", NEW)
    model.aliases["champion"] = NEW
    model.shadows.add(version=NEW, percent=100)
    model.log_labels = True
    return model


@asynccontextmanager
async def released_batcher(folder: Path) -> AsyncIterator[tuple[Part, Any, FakeMonitor]]:
    """A batcher that was told once, and was then started again without a router."""
    router, monitor = FakeRouter(full_table(released(), revision=3)), FakeMonitor()
    async with serving(router=router, monitor=monitor) as neighbours:
        async with running(batcher_part(folder, router=neighbours)):
            await eventually((folder / "data" / "serving_table.bin").exists, what="the table is on disk")
        part = batcher_part(folder, monitor=neighbours)
        async with running(part), asking(part) as stub:
            yield part, stub, monitor


async def over_json(part: Part, body: dict[str, Any]) -> dict[str, Any]:
    """A prediction as the gateway asks for it over REST."""
    async with grpc.aio.insecure_channel(address_of(part)) as channel:
        stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        data = json.dumps({"instances": [{"X": [3.0, *[0.0] * 63]}], **body}).encode()
        request = prediction_service_pb2.PredictJsonRequest(model_name="digits", body=httpbody_pb2.HttpBody(data=data))
        answer: dict[str, Any] = json.loads((await stub.PredictJson(request, timeout=TIMEOUT_S)).data)
        return answer


async def test_an_alias_may_be_named_wherever_a_version_may(tmp_path: Path) -> None:
    async with released_batcher(tmp_path) as (part, stub, _):
        by_default = await stub.Predict(digits_request(), timeout=TIMEOUT_S)
        typed = await stub.Predict(digits_request(version="champion"), timeout=TIMEOUT_S)
        header = await stub.Predict(digits_request(), metadata=(("x-model-version", "champion"),), timeout=TIMEOUT_S)
        plain = await over_json(part, {"version": "champion"})
        assert by_default.model_version == "v1.0.0"
        assert {typed.model_version, header.model_version, plain["model_version"]} == {NEW}
        tensor = {"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [3.0, *[0.0] * 63]}
        async with httpx.AsyncClient(trust_env=False, base_url=f"http://{address_of(part)}") as client:
            path = "/v2/models/digits/versions/champion"
            rest = await client.post(f"{path}/infer", json={"inputs": [tensor]}, timeout=TIMEOUT_S)
            assert rest.json()["model_version"] == NEW
            assert (await client.get(f"{path}/ready", timeout=TIMEOUT_S)).status_code == 200
            missing = await client.get("/v2/models/digits/versions/loser", timeout=TIMEOUT_S)
        assert missing.status_code == 404
        assert "served are: v1.0.0, v1.1.0; aliases are: champion (v1.1.0)" in missing.json()["error"]
        async with grpc.aio.insecure_channel(address_of(part)) as channel:
            triton: Any = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            asked = grpc_service_pb2.ModelInferRequest(model_name="digits", model_version="champion")
            asked.inputs.add(name="X", datatype="FP32", shape=[1, 64]).contents.fp32_contents.extend([0.0] * 64)
            assert (await triton.ModelInfer(asked, timeout=TIMEOUT_S)).model_version == NEW


def logged(monitor: FakeMonitor) -> dict[tuple[str, str], tuple[int, list[str]]]:
    """Kind and labels of each entry, by version and request id."""
    entries = {}
    for group in monitor.groups():
        kinds = list(group.request_kinds) or [0] * len(group.request_ids)
        labels = [list(one.classes) for one in group.request_labels] or [[]] * len(group.request_ids)
        for request_id, kind, label in zip(group.request_ids, kinds, labels, strict=True):
            entries[group.version, request_id] = (kind, label)
    return entries


async def test_the_log_has_labels_retries_and_copies(tmp_path: Path) -> None:
    async with released_batcher(tmp_path) as (_, stub, monitor):
        await stub.Predict(digits_request(label=4, request_id="first"), timeout=TIMEOUT_S)
        again = (("x-envoy-attempt-count", "2"),)
        await stub.Predict(digits_request(label=5, request_id="again"), metadata=again, timeout=TIMEOUT_S)
        wrong = digits_request(label=6, request_id="failed", parameters={"do": "fail"})
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Predict(wrong, timeout=TIMEOUT_S)

        await eventually(lambda: len(logged(monitor)) == 5, what="all are logged")
        assert logged(monitor) == {
            ("v1.0.0", "first"): (0, ["4"]),
            ("v1.0.0", "again"): (1, ["5"]),
            ("v1.0.0", "failed"): (0, []),
            (NEW, "first"): (2, ["4"]),
            (NEW, "again"): (2, ["5"]),
        }
        sums = [one for group in monitor.groups() if group.version == NEW for one in group.shadow_comparisons]
        assert {one.primary_version for one in sums} == {"v1.0.0"}
        assert (sum(one.compared_count for one in sums), sum(one.disagreed_count for one in sums)) == (2, 0)
