"""What the GPU's benchmark asks, reads and judges by; the card itself has no part in it."""

import numpy as np
import pytest
from inference import grpc_service_pb2

from benchmarks.bare_triton import Setting
from benchmarks.gpu.batcher import BATCHED, SINGLE, Place, table
from benchmarks.gpu.card import Card, Sample, parse
from benchmarks.gpu.measure import Seen, Shot
from benchmarks.gpu.passages import Passage, Sizes, infer, labels_of
from benchmarks.gpu.report import judge
from benchmarks.gpu.targets import BARE_ON, MESH_OFF, MESH_ON, Batches, batches_of, settings
from benchmarks.gpu.triton import Encoder
from benchmarks.load import Measured
from benchmarks.payloads import WrongAnswerError
from benchmarks.rounds import Row
from services.batcher.adapters.serving_proto import models_from_proto

PASSAGE = Passage(np.arange(128, dtype=np.float32)[None], (3,), np.array([[0.0, 3.0, 4.0]], dtype=np.float32))


def answer(scores: list[float], label: int = 3) -> bytes:
    response = grpc_service_pb2.ModelInferResponse(
        outputs=[grpc_service_pb2.ModelInferResponse.InferOutputTensor(name=name) for name in ("label", "scores")],
        raw_output_contents=[np.array([label], "<i8").tobytes(), np.array(scores, "<f4").tobytes()],
    )
    return bytes(response.SerializeToString())


def test_a_passage_is_asked_about_in_whole_numbers() -> None:
    call = infer("encoder", PASSAGE, version="v1.0.1")
    request = grpc_service_pb2.ModelInferRequest.FromString(call.message)
    assert (request.model_name, request.model_version, list(request.inputs[0].shape)) == ("encoder", "v1.0.1", [1, 128])
    assert np.frombuffer(request.raw_input_contents[0], "<i4").tolist() == list(range(128))


def test_scores_in_half_precision_are_those_of_the_passage_and_others_are_not() -> None:
    assert labels_of(PASSAGE, answer([0.0, 3.01, 4.0])) == (3,)
    assert labels_of(PASSAGE, answer([0.0, 3.0, 4.0], label=1)) == (1,)
    for wrong in ([0.0, 3.0, 4.2], [3.0, 4.0], [], [0.0, float("nan"), 4.0]):
        with pytest.raises(WrongAnswerError):
            labels_of(PASSAGE, answer(wrong))


def test_a_line_of_the_card_is_numbers_or_nothing() -> None:
    assert parse("97, 512.30, 1980\n", 2.0) == Sample(2.0, 97.0, 512.3, 1980.0)
    assert parse("[N/A], 1, 2\n", 2.0) is None
    assert parse("\n", 2.0) is None


def test_the_card_is_averaged_within_a_load() -> None:
    card = Card()
    for at_s, busy in ((1.0, 0.0), (2.0, 90.0), (3.0, 100.0), (4.0, 0.0)):
        card.saw(Sample(at_s, busy, busy, busy))
    assert card.between(1.5, 3.5) == Sample(3.5, 95.0, 95.0, 95.0)
    assert card.between(5.0, 6.0) is None


def test_bare_triton_is_tried_with_windows_sizes_and_instances() -> None:
    every = settings(128, quick=False)
    assert {(one.rows_max, one.delay_us) for one in every} == {(128, 0), (128, 1000), (128, 5000), (64, 0), (64, 1000)}
    assert {one.instances for one in every} == {1, 2}
    assert len({Encoder(one, gpu=True, sizes=Sizes()).name for one in every}) == len(every) == 10


@pytest.mark.parametrize(("gpu", "kind"), [(True, "KIND_GPU"), (False, "KIND_CPU")])
def test_a_model_of_the_batchers_is_as_the_deployer_writes_it(gpu: bool, kind: str) -> None:
    config = Encoder(Setting(instances=2), gpu=gpu, sizes=Sizes()).config()
    assert "max_batch_size: 0\n" in config
    assert "dims: [ -1, 128 ]" in config
    assert f"kind: {kind} count: 2" in config
    assert 'key: "graphs" value { string_value: "1" }' in config
    assert "dynamic_batching" not in config


def test_a_model_that_triton_batches_says_so() -> None:
    config = Encoder(Setting(64, 1000), gpu=True, sizes=Sizes()).config()
    assert "max_batch_size: 64\n" in config
    assert "dynamic_batching { max_queue_delay_microseconds: 1000 }" in config


def test_the_table_is_one_that_a_batcher_takes() -> None:
    told = table({BATCHED: Place("encoder", "127.0.0.1:1", 128), SINGLE: Place("encoder", "127.0.0.1:1", 0)})
    versions = models_from_proto(told.models)["encoder"].versions
    assert versions[BATCHED].batching.enabled
    assert versions[BATCHED].batching.max_batch_size == 128
    assert not versions[SINGLE].batching.enabled


def test_batches_are_read_off_both_kinds_of_server() -> None:
    triton = 'nv_inference_count{model="m",version="1"} 60\nnv_inference_exec_count{model="m",version="1"} 4\n'
    batcher = (
        "# TYPE model_batch_size histogram\n"
        'model_batch_size_bucket{model="m",version="v1.0.0",le="+Inf"} 2\n'
        'model_batch_size_count{model="m",version="v1.0.0"} 2\n'
        'model_batch_size_sum{model="m",version="v1.0.0"} 50\n'
    )
    assert batches_of(triton) == {"m": Batches(60.0, 4.0)}
    assert batches_of(batcher) == {"v1.0.0": Batches(50.0, 2.0)}
    assert Batches(60.0, 4.0).mean_since(Batches(30.0, 2.0)) == 15.0
    assert Batches().mean_since(Batches()) == 0.0


def seen(target: str, number: int, rate: float, busy: float) -> Seen:
    return Seen(Row(target, target, BARE_ON, 64, number, Measured(rate, 1.0, 1.0, 1.0, 1, 0)), 1.0, busy, 1.0)


def shot(target: str, p95_ms: float) -> Shot:
    return Shot(target, target, BARE_ON, 1, 100.0, 1.0, p95_ms, 1.0, 0.1, 1.0, 50.0)


@pytest.mark.parametrize(("rate", "busy", "p95_ms", "met"), [(30.0, 81.0, 5.0, True), (29.0, 80.0, 5.1, False)])
def test_the_bars(rate: float, busy: float, p95_ms: float, met: bool) -> None:
    rows = [seen(MESH_ON, 1, rate, busy), seen(MESH_OFF, 1, 10.0, 99.0)]
    verdicts = judge(rows, [shot(MESH_ON, p95_ms), shot(MESH_OFF, 5.0)])
    assert [one.met for one in verdicts] == [met] * 3
