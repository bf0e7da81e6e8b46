"""The engine in front of the real Triton: rows go where they belong, also when Triton is killed on the way."""

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from services.batcher.adapters.backend_clients import open_client
from services.batcher.domain.request import InferRequest, Tensor
from services.batcher.domain.serving import Backend, Batching, ServedVersion
from services.batcher.engines.engine import Engine
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.adapters.triton import TritonServer
from services.supervisor.parts.part import Part
from services.supervisor.process import Process
from tests.integration.deployer.driving import DIGITS, Triton
from tests.integration.deployer.test_runner import NAME, echo, lookup, put
from tests.support.parts import loader_of, triton_in
from tests.support.standing_still import standing_still
from tests.support.waiting import eventually

CLOCK = SystemClock()
DIGITS_SCHEMA = ModelSchema(
    (TensorSpec("X", DataType.FP32, (64,)),),
    (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (10,))),
)
SAMPLES = orjson.loads((DIGITS / "samples.json").read_bytes())
ROWS = [struct.pack("<64f", *sample["instance"]["X"]) for sample in SAMPLES]
LABELS = [sample["expected"]["v1.0.0"] for sample in SAMPLES]


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return triton_in(tmp_path)


@pytest.fixture
async def triton(part: Part) -> AsyncIterator[Triton]:
    server = Triton(part, await Process.start(part, clock=CLOCK))
    await server.process.wait_ready()
    yield server
    await server.process.stop()


@pytest.fixture
async def repository(part: Part) -> AsyncIterator[TritonServer]:
    """What loads models, as the deployer does."""
    client = loader_of(part)
    yield client
    await client.close()


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(clock=CLOCK, open_client=open_client)
    await made.start()
    yield made
    await made.stop(1)


def version_of(triton: Triton, schema: ModelSchema, *, batch_max: int = 32) -> ServedVersion:
    address = f"127.0.0.1:{triton.part.ports['triton_http']}"
    return ServedVersion(
        "tried",
        "v1.0.0",
        "d",
        schema,
        batching=Batching(max_batch_size=batch_max),
        backends=(Backend("triton-0", address, "", NAME),),
    )


def ask(
    version: ServedVersion, rows: int, data: bytes, *, within_s: float = 10.0, outputs: tuple[str, ...] = ()
) -> InferRequest:
    spec = version.schema.inputs[0]
    tensor = Tensor(spec.name, spec.data_type, (rows, *spec.shape), data)
    return InferRequest(version, rows, (tensor,), CLOCK.monotonic() + within_s, outputs=outputs)


def integers(data: bytes | memoryview) -> list[int]:
    return [number for (number,) in struct.iter_unpack("<q", data)]


async def load_digits(repository: TritonServer, folder: Path) -> None:
    await put(folder, (DIGITS / "digits-v1.0.0.onnx", DIGITS_SCHEMA))
    await repository.load(NAME)


async def test_every_caller_gets_the_labels_of_its_own_digits(
    triton: Triton, repository: TritonServer, engine: Engine, tmp_path: Path
) -> None:
    await load_digits(repository, tmp_path)
    version = version_of(triton, DIGITS_SCHEMA, batch_max=16)
    picks = [[(at * 7 + row) % len(ROWS) for row in range(1 + at % 5)] for at in range(60)] + [list(range(50))]
    picks[-1] = [pick % len(ROWS) for pick in picks[-1]]
    results = await asyncio.gather(
        *(engine.infer(ask(version, len(pick), b"".join(ROWS[one] for one in pick))) for pick in picks)
    )
    for pick, result in zip(picks, results, strict=True):
        label, probabilities = result.outputs
        assert integers(label.data) == [LABELS[one] for one in pick]
        assert (label.shape, probabilities.shape) == ((len(pick),), (len(pick), 10))
        for row, one in zip(struct.iter_unpack("<10f", probabilities.data), pick, strict=True):
            assert row.index(max(row)) == LABELS[one]
    assert engine.counters.batches < len(picks) / 2
    only = await engine.infer(ask(version, 1, ROWS[0], outputs=("probabilities",)))
    assert [tensor.name for tensor in only.outputs] == ["probabilities"]


async def test_texts_of_any_length_come_back_to_their_callers(
    triton: Triton, repository: TritonServer, engine: Engine, tmp_path: Path
) -> None:
    made = echo(tmp_path)
    await put(tmp_path, made)
    await repository.load(NAME)
    version = version_of(triton, made[1], batch_max=8)
    texts = [["", "two words"], ["Grüße, 世界"], ["x" * 5000], [f"row {number}" for number in range(20)], [""]]
    framed = [b"".join(struct.pack("<I", len(one.encode())) + one.encode() for one in rows) for rows in texts]
    results = await asyncio.gather(
        *(engine.infer(ask(version, len(rows), data)) for rows, data in zip(texts, framed, strict=True))
    )
    assert [bytes(result.outputs[0].data) for result in results] == framed


async def test_of_joined_requests_only_the_guilty_one_sees_the_models_error(
    triton: Triton, repository: TritonServer, engine: Engine, tmp_path: Path
) -> None:
    made = lookup(tmp_path)
    await put(tmp_path, made)
    await repository.load(NAME)
    version = version_of(triton, made[1])
    asked = [0, 1, 2, 99, 3, 1]
    answers = await asyncio.gather(
        *(engine.infer(ask(version, 1, struct.pack("<q", place))) for place in asked), return_exceptions=True
    )
    for place, answer in zip(asked, answers, strict=True):
        if place == 99:
            assert isinstance(answer, MeshError)
            assert answer.reason is Reason.MODEL_FAILED
            assert "99" in answer.message
        else:
            assert not isinstance(answer, BaseException), answer
            assert struct.unpack("<f", answer.outputs[0].data) == (10.0 * place,)


async def test_callers_with_time_do_not_notice_that_triton_is_killed(
    triton: Triton, repository: TritonServer, engine: Engine, tmp_path: Path
) -> None:
    await load_digits(repository, tmp_path)
    version = version_of(triton, DIGITS_SCHEMA)
    stop = asyncio.Event()
    right = 0

    async def call(at: int) -> None:
        nonlocal right
        while not stop.is_set():
            result = await engine.infer(ask(version, 1, ROWS[at], within_s=25))
            assert integers(result.outputs[0].data) == [LABELS[at]]
            right += 1

    async def until(more: int) -> None:
        target = right + more
        await eventually(lambda: right >= target, timeout_s=30, what="callers are answered")

    async with asyncio.timeout(40), asyncio.TaskGroup() as group:
        for at in range(8):
            group.create_task(call(at % len(ROWS)))
        await until(200)
        await triton.kill()
        hasty = asyncio.gather(engine.infer(ask(version, 1, ROWS[0], within_s=0.2)), return_exceptions=True)
        await triton.start()
        await repository.load(NAME)
        await until(200)
        stop.set()
    error = (await hasty)[0]
    assert isinstance(error, MeshError)
    assert error.reason is Reason.DEADLINE_TOO_SHORT
    assert engine.counters.failed == 0


async def test_callers_with_time_do_not_notice_that_triton_stands_still(
    triton: Triton, repository: TritonServer, engine: Engine, tmp_path: Path
) -> None:
    await load_digits(repository, tmp_path)
    version = version_of(triton, DIGITS_SCHEMA)
    for row in ROWS[:20]:
        await engine.infer(ask(version, 1, row))

    def silence_is_noticed() -> bool:
        depth = engine.depths()["tried", "v1.0.0"]
        return (depth.batches_in_flight, depth.requests_waiting) == (0, 8)

    with standing_still(triton.process.pid):
        calls = asyncio.gather(*(engine.infer(ask(version, 1, row, within_s=40)) for row in ROWS[:8]))
        await eventually(silence_is_noticed, timeout_s=20)
    assert [integers(result.outputs[0].data) for result in await calls] == [[label] for label in LABELS[:8]]
