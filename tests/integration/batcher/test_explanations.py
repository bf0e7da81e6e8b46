"""The batcher as it is started, in front of a real Triton and beside a real registry: predictions are explained."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import pytest_asyncio
from infermesh.prediction.v1 import prediction_pb2
from prometheus_client.parser import text_string_to_metric_families

from tests.support.explaining_mesh import BIAS, IMAGES, SAMPLE, TIMEOUT_S, WEIGHTS, Mesh, explaining_mesh
from tests.support.registry_driving import OLD
from tests.support.waiting import eventually

TOLERANCE = 1e-4
"""What is promised, relative to the largest of 1, the output and the baseline."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory, postgres_server: tuple[int, str]) -> AsyncIterator[Mesh]:
    async with explaining_mesh(tmp_path_factory.mktemp("mesh"), postgres_server) as mesh:
        yield mesh


async def explained(mesh: Mesh, model: str, *instances: Mapping[str, object], **fields: Any) -> list[Any]:
    """The predictions, once the batcher has the reference sample."""

    async def ready() -> Any:
        try:
            return await mesh.predicted(model, instances, **fields)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return None

    answer = await eventually(ready, what="the reference sample arrived")
    predictions: list[Any] = answer["predictions"]
    return predictions


def row_of(instance: Mapping[str, float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([instance[name] for name in WEIGHTS])


async def test_a_linear_model_is_explained_by_what_is_known_of_it(mesh: Mesh) -> None:
    asked: list[dict[str, float]] = [
        {"income": 52_000.0, "age": 33.0, "debt": 2.0, "visits": 9.0},
        {"income": 0.0, "age": 80.0, "debt": 0.0, "visits": 1.0},
    ]
    predictions = await explained(mesh, "credit", *asked)
    weights, mean = np.array(list(WEIGHTS.values())), np.mean([row_of(one) for one in SAMPLE], axis=0)
    for instance, one in zip(asked, predictions, strict=True):
        bound = TOLERANCE * max(1, abs(one["output"]), abs(one["explanation_baseline"]))
        assert list(one["explanation"]) == list(WEIGHTS)
        truth = weights * (row_of(instance) - mean)
        assert list(one["explanation"].values()) == pytest.approx(truth.tolist(), abs=bound)
        assert one["explanation_baseline"] == pytest.approx(float(weights @ mean + BIAS), abs=bound)
        assert sum(one["explanation"].values()) + one["explanation_baseline"] == pytest.approx(one["output"], abs=bound)
        assert one["explanation"]["visits"] == 0.0


async def test_digits_are_explained_pixel_by_pixel_and_add_up_to_the_confidence(mesh: Mesh) -> None:
    predictions = await explained(mesh, "digits", *IMAGES[:3])
    for one in predictions:
        values = one["explanation"]
        assert list(values) == [f"X[{pixel}]" for pixel in range(64)]
        assert sum(values.values()) + one["explanation_baseline"] == pytest.approx(one["confidence"], abs=TOLERANCE)
        # No digit has ink in its upper left corner: what is always the same explains nothing.
        assert values["X[0]"] == 0.0
        assert max(values.values()) > 0.01
    again = await explained(mesh, "digits", IMAGES[1])
    assert again[0]["explanation"] == pytest.approx(predictions[1]["explanation"], abs=1e-5)


async def test_typed_and_streamed_predictions_are_explained_alike(mesh: Mesh) -> None:
    (shown,) = await explained(mesh, "credit", SAMPLE[3])
    request = prediction_pb2.PredictRequest(model_name="credit", explain=True)
    instance = request.instances.add()
    for name, value in SAMPLE[3].items():
        instance.features[name].double_value = value
    alone = (await mesh.stub.Predict(request, timeout=TIMEOUT_S)).predictions[0]
    assert dict(alone.explanation) == pytest.approx(shown["explanation"], abs=1e-9)
    assert alone.explanation_baseline == pytest.approx(shown["explanation_baseline"], abs=1e-9)
    stream = mesh.stub.StreamPredict([request] * 8, timeout=TIMEOUT_S)
    streamed = [answer.response.predictions[0].explanation async for answer in stream]
    assert [dict(one) for one in streamed] == [pytest.approx(shown["explanation"], abs=1e-9)] * 8


async def test_nothing_is_explained_unasked(mesh: Mesh) -> None:
    (one,) = (await mesh.predicted("credit", [SAMPLE[0]], explain=False))["predictions"]
    assert "explanation" not in one
    assert "explanation_baseline" not in one


async def test_refusals_name_the_bound_and_the_remedy(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="33 instances; at most 32"):
        await mesh.predicted("credit", [SAMPLE[0]] * 33)
    with pytest.raises(grpc.aio.AioRpcError, match="registered without a reference sample") as caught:
        await mesh.predicted("digits", [IMAGES[0]], version="v1.1.0")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(grpc.aio.AioRpcError, match=r"explain: the deadline passed after \d+ of \d+ rows") as caught:
        await mesh.predicted("digits", IMAGES[:10], timeout_ms=60)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_explanations_are_counted_and_their_time_is_not_the_predictions(mesh: Mesh) -> None:
    await explained(mesh, "digits", *IMAGES[:2])
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://{mesh.address}/metrics", timeout=5)).text
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == "digits" and sample.labels.get("version") == OLD
    }
    assert found["model_explanations_total"] >= 2
    assert found["model_explanation_rows_total"] >= 2 * 8192
    assert found["model_latency_ms_sum"] < 1000 * found["model_explanation_seconds_sum"]


async def test_explanations_go_on_without_the_registry(mesh: Mesh) -> None:
    """Last in this file: the registry of the tests above is stopped."""
    (before,) = await explained(mesh, "credit", SAMPLE[5])
    await mesh.registry.stop()
    (after,) = (await mesh.predicted("credit", [SAMPLE[5]]))["predictions"]
    assert after["explanation"] == pytest.approx(before["explanation"], abs=1e-9)
