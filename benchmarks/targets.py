"""What is measured: an address, a request, and the proof that the answers are right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import grpc
import httpx

from benchmarks.payloads import MODEL, Call, Digit, WrongAnswerError, frame, open_inference, rest, typed

BARE, BATCHER, GATEWAY_GRPC, GATEWAY_TYPED, GATEWAY_REST = (
    "bare",
    "batcher",
    "gateway-grpc",
    "gateway-typed",
    "gateway-rest",
)
TITLES: Mapping[str, str] = MappingProxyType(
    {
        BARE: "bare Triton, gRPC",
        BATCHER: "batcher alone, gRPC",
        GATEWAY_GRPC: "gateway, gRPC",
        GATEWAY_TYPED: "gateway, typed gRPC",
        GATEWAY_REST: "gateway, REST",
    }
)
"""Every target, in the order in which a round measures them."""
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """One way to ask for a prediction."""

    name: str
    address: str
    call_for: Callable[[Digit], Call]


def bare_target(address: str, model_name: str) -> Target:
    """Triton without the mesh."""
    return Target(BARE, address, lambda digit: open_inference(model_name, digit))


def mesh_targets(*, gateway: str, batcher: str) -> Sequence[Target]:
    """The ways through the mesh."""
    return (
        Target(BATCHER, batcher, lambda digit: open_inference(MODEL, digit)),
        Target(GATEWAY_GRPC, gateway, lambda digit: open_inference(MODEL, digit)),
        Target(GATEWAY_TYPED, gateway, lambda digit: typed(MODEL, digit)),
        Target(GATEWAY_REST, gateway, lambda digit: rest(MODEL, digit)),
    )


async def verify(target: Target, digits: Sequence[Digit]) -> int:
    """Asks about every digit. Returns the size of an answer's body in bytes; raises WrongAnswerError."""
    ask = _ask_grpc if target.call_for(digits[0]).grpc else _ask_http
    sizes = []
    for digit in digits:
        call = target.call_for(digit)
        body = await ask(target.address, call)
        label = call.label_of(body)
        if label != digit.label:
            raise WrongAnswerError(f"{TITLES[target.name]} says {label} where the model says {digit.label}")
        sizes.append(len(frame(body)) if call.grpc else len(body))
    return sizes[0]


async def _ask_grpc(address: str, call: Call) -> bytes:
    async with grpc.aio.insecure_channel(address) as channel:
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(call.path)
        try:
            return await ask(call.message, timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise WrongAnswerError(f"{call.path} at {address}: {error.code().name}: {error.details()}") from error


async def _ask_http(address: str, call: Call) -> bytes:
    async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S) as client:
        answer = await client.post(f"http://{address}{call.path}", content=call.body, headers=dict(call.headers))
    if answer.status_code != httpx.codes.OK:
        raise WrongAnswerError(f"{call.path} at {address}: HTTP {answer.status_code}: {answer.text[:300]}")
    return answer.content
