"""A model that answers row by row as told, and a second layer in memory, for tests of the prediction cache."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from services.batcher.domain.priority import Priority
from services.batcher.domain.refusals import too_late
from services.batcher.domain.request import InferRequest, InferResult, Parameter, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.engines.cache_ports import Stored
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.schema import DataType, ModelSchema, TensorSpec

SCHEMA = ModelSchema(
    (TensorSpec("x", DataType.INT64), TensorSpec("word", DataType.BYTES)),
    (TensorSpec("y", DataType.INT64, (2,)), TensorSpec("word", DataType.BYTES)),
)
VERSION = ServedVersion("m", "v1.0.0", "d", SCHEMA, deterministic=True, artifact_digest="a" * 64)


def word(number: int) -> bytes:
    """A text of a length of its own, as an element of BYTES."""
    data = b"w" * (number % 7)
    return len(data).to_bytes(4, "little") + data


def request(
    numbers: Sequence[int],
    *,
    served: ServedVersion = VERSION,
    deadline_s: float = 1000.0,
    outputs: tuple[str, ...] = (),
    parameters: tuple[tuple[str, Parameter], ...] = (),
    tenant: str = "",
    priority: Priority = Priority.CALLER,
) -> InferRequest:
    """One row for each number."""
    inputs = (
        Tensor("x", DataType.INT64, (len(numbers),), b"".join(number.to_bytes(8, "little") for number in numbers)),
        Tensor("word", DataType.BYTES, (len(numbers),), b"".join(map(word, numbers))),
    )
    return InferRequest(served, len(numbers), inputs, deadline_s, outputs, parameters, "r", tenant, priority)


def answer(numbers: Sequence[int], outputs: tuple[str, ...] = ()) -> InferResult:
    """What the model says: (n, n + 1), and the word."""
    made = {
        "y": Tensor(
            "y",
            DataType.INT64,
            (len(numbers), 2),
            b"".join(number.to_bytes(8, "little") + (number + 1).to_bytes(8, "little") for number in numbers),
        ),
        "word": Tensor("word", DataType.BYTES, (len(numbers),), b"".join(map(word, numbers))),
    }
    return InferResult(tuple(made[name] for name in outputs or made))


def numbers_of(asked: InferRequest) -> list[int]:
    """The rows of a request."""
    data = asked.inputs[0].data
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


@dataclass
class FakeModel:
    """Answers after `latency_s`, or at the deadline with its error. Words must belong to their numbers."""

    clock: Clock
    latency_s: float = 0.01
    answers: Callable[[InferRequest], InferResult] = lambda asked: answer(numbers_of(asked), asked.outputs)
    asked: list[list[int]] = field(default_factory=list)

    async def infer(self, asked: InferRequest) -> InferResult:
        """As the engine does."""
        numbers = numbers_of(asked)
        assert asked.inputs[1].data == b"".join(map(word, numbers))
        assert asked.rows == len(numbers) == asked.inputs[0].shape[0] == asked.inputs[1].shape[0]
        self.asked.append(numbers)
        left_s = asked.deadline_s - self.clock.monotonic()
        if self.latency_s >= left_s:
            await self.clock.sleep(left_s)
            raise too_late("m", "v1.0.0", left_s, sent=True)
        await self.clock.sleep(self.latency_s)
        return self.answers(asked)

    def late(self, asked: InferRequest, waited_s: float) -> MeshError:
        """As the engine does."""
        return too_late(asked.served.model_name, asked.served.version, waited_s, sent=True)

    @property
    def rows_asked(self) -> list[int]:
        """All rows that it was sent, in order."""
        return [number for numbers in self.asked for number in numbers]


@dataclass
class FakeStore:
    """An `AnswerStore` in memory."""

    clock: Clock
    latency_s: float = 0.001
    away: bool = False
    kept: dict[str, tuple[InferResult, float]] = field(default_factory=dict)
    reads: list[Sequence[str]] = field(default_factory=list)

    def read(self, keys: Sequence[str]) -> Awaitable[Sequence[Stored | None]] | None:
        """What is kept, after `latency_s`."""
        if self.away:
            return None
        self.reads.append(keys)
        future: asyncio.Future[Sequence[Stored | None]] = asyncio.get_running_loop().create_future()

        def reply() -> None:
            if not future.done():
                future.set_result([self._found(key) for key in keys])

        asyncio.get_running_loop().call_later(self.latency_s, reply)
        return future

    def write(self, key: str, result: InferResult, *, left_s: float) -> None:
        """Keeps it at once."""
        if not self.away:
            self.kept[key] = (result, self.clock.monotonic() + left_s)

    def _found(self, key: str) -> Stored | None:
        result, ends_s = self.kept.get(key, (None, 0.0))
        left_s = ends_s - self.clock.monotonic()
        return Stored(replace(result), left_s) if result is not None and left_s > 0 else None
