"""What is measured: an address, a request, and the proof that the answers are right."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import MappingProxyType

import grpc
import httpx

from benchmarks.payloads import (
    MODEL,
    Call,
    Sample,
    WrongAnswerError,
    frame,
    open_inference,
    open_inference_json,
    rest,
    typed,
    with_key,
)

BARE, BARE_JSON, BATCHER, GATEWAY_GRPC, GATEWAY_TYPED, GATEWAY_REST = (
    "bare",
    "bare-json",
    "batcher",
    "gateway-grpc",
    "gateway-typed",
    "gateway-rest",
)
TITLES: Mapping[str, str] = MappingProxyType(
    {
        BARE: "bare Triton, gRPC",
        BATCHER: "batcher alone, gRPC",
        GATEWAY_GRPC: "gateway, OIP gRPC",
        GATEWAY_TYPED: "gateway, typed gRPC",
        BARE_JSON: "bare Triton, HTTP/JSON",
        GATEWAY_REST: "gateway, REST JSON",
    }
)
"""Every target, in the order in which a round measures them: each after what it is compared with."""
_TIMEOUT_S = 10.0
_GRPC_OWN = ("content-type", "te")
"""Headers that a gRPC library writes itself."""
Asker = Callable[[Call], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Target:
    """One way to ask for a prediction."""

    name: str
    address: str
    call_for: Callable[[Sample], Call]
    title: str
    baseline: str
    """The name of the target that it is compared with: bare Triton in the same protocol."""


def bare_target(address: str, model_name: str) -> Target:
    """Triton without the mesh."""
    return Target(BARE, address, lambda sample: open_inference(model_name, sample), TITLES[BARE], BARE)


def bare_json_target(address: str, model_name: str) -> Target:
    """Triton's own HTTP endpoint without the mesh."""
    return Target(BARE_JSON, address, lambda one: open_inference_json(model_name, one), TITLES[BARE_JSON], BARE_JSON)


def mesh_targets(*, gateway: str, batcher: str, wanted: Sequence[str], key: str = "") -> Sequence[Target]:
    """The ways through the mesh that are `wanted`. Those through the gateway show a `key` where there is one."""

    def shown(call: Call) -> Call:
        return with_key(call, key)

    every = (
        Target(BATCHER, batcher, lambda sample: open_inference(MODEL, sample), TITLES[BATCHER], BARE),
        Target(GATEWAY_GRPC, gateway, lambda sample: shown(open_inference(MODEL, sample)), TITLES[GATEWAY_GRPC], BARE),
        Target(GATEWAY_TYPED, gateway, lambda sample: shown(typed(MODEL, sample)), TITLES[GATEWAY_TYPED], BARE),
        Target(GATEWAY_REST, gateway, lambda sample: shown(rest(MODEL, sample)), TITLES[GATEWAY_REST], BARE_JSON),
    )
    return [target for target in every if target.name in wanted]


async def verify(target: Target, samples: Sequence[Sample]) -> int:
    """Asks about every sample. Returns the size in bytes of an answer's body to the first; raises WrongAnswerError."""
    async with AsyncExitStack() as stack:
        ask = await _asker(target, samples, stack)
        sizes = []
        for sample in samples:
            call = target.call_for(sample)
            body = await ask(call)
            labels = call.labels_of(body)
            if labels != sample.labels:
                raise WrongAnswerError(f"{target.title} says {labels} where the model says {sample.labels}")
            sizes.append(len(frame(body)) if call.grpc else len(body))
    return sizes[0]


async def _asker(target: Target, samples: Sequence[Sample], stack: AsyncExitStack) -> Asker:
    if target.call_for(samples[0]).grpc:
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(target.address))
        return lambda call: _ask_grpc(channel, target.address, call)
    client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S))
    return lambda call: _ask_http(client, target.address, call)


async def _ask_grpc(channel: grpc.aio.Channel, address: str, call: Call) -> bytes:
    ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(call.path)
    try:
        metadata = tuple(pair for pair in call.headers if pair[0] not in _GRPC_OWN)
        return await ask(call.message, timeout=_TIMEOUT_S, metadata=metadata)
    except grpc.aio.AioRpcError as error:
        raise WrongAnswerError(f"{call.path} at {address}: {error.code().name}: {error.details()}") from error


async def _ask_http(client: httpx.AsyncClient, address: str, call: Call) -> bytes:
    answer = await client.post(f"http://{address}{call.path}", content=call.body, headers=dict(call.headers))
    if answer.status_code != httpx.codes.OK:
        raise WrongAnswerError(f"{call.path} at {address}: HTTP {answer.status_code}: {answer.text[:300]}")
    return answer.content
