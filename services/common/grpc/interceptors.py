"""What happens around every RPC of a server: identity, trace, access, deadline, errors, metrics. In one place.

One interceptor rather than five: each `grpc.aio` interceptor wraps the handler anew, and the order of five would be
hidden in a list. Errors become `google.rpc` details here and nowhere else.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc
from opentelemetry import trace

from services.common.access.guard import Guard
from services.common.access.policy import OPEN_PREFIXES, rule_of
from services.common.access.rule import Rule
from services.common.clock import Clock
from services.common.errors import Code, MeshError, Reason
from services.common.grpc.identity import Identity, set_identity
from services.common.grpc.reading import Refused, lenient, strict
from services.common.grpc.status import STATUS_DETAILS_KEY, status_from_error
from services.common.grpc.trailers import fitting_details, fitting_message
from services.common.telemetry.logging import get_logger
from services.common.telemetry.metrics import RpcMetrics
from services.common.telemetry.tracing import Tracing, extract_context

if TYPE_CHECKING:  # generic in their stubs alone
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
else:
    Context = grpc.aio.ServicerContext
    Handler = grpc.RpcMethodHandler

log = get_logger(__name__)

_LAST_WORD_S = 0.05
"""So long before its deadline a stream is ended in words."""
DEADLINE_MIN_S = 0.002
"""With less than this left, a call is refused at once: it could only waste work."""


class MeshInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of a server. Callers who may not use it never reach the servicer."""

    def __init__(self, *, clock: Clock, metrics: RpcMetrics, tracing: Tracing, guard: Guard | None = None) -> None:
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing
        self._guard = guard or Guard()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the method's handler, wrapped; None where there is no such method, which gRPC answers itself."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(OPEN_PREFIXES):
            return handler
        headers = {
            key: value for key, value in handler_call_details.invocation_metadata or () if isinstance(value, str)
        }
        call = _Call(
            method, headers, clock=self._clock, metrics=self._metrics, tracing=self._tracing, guard=self._guard
        )
        return call.wrap(handler)


class _Call:
    """One RPC being answered."""

    def __init__(
        self,
        method: str,
        headers: dict[str, str],
        *,
        clock: Clock,
        metrics: RpcMetrics,
        tracing: Tracing,
        guard: Guard,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._tracing = tracing
        self._guard = guard
        self._method = method
        self._headers = headers

    def wrap(self, handler: Handler) -> Handler:
        reader = strict if handler.request_streaming else lenient
        codecs = {
            "request_deserializer": reader(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming and handler.response_streaming:
            stream = self._stream(handler.stream_stream, streamed=True)
            return grpc.stream_stream_rpc_method_handler(stream, **codecs)
        if handler.response_streaming:
            stream = self._stream(handler.unary_stream, streamed=False)
            return grpc.unary_stream_rpc_method_handler(stream, **codecs)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._unary(handler.stream_unary, streamed=True), **codecs)
        return grpc.unary_unary_rpc_method_handler(self._unary(handler.unary_unary, streamed=False), **codecs)

    def _unary(self, behaviour: Any, *, streamed: bool) -> Any:
        async def answer(request: Any, context: Context) -> Any:
            with _Outcome(self, context) as outcome:
                try:
                    async with asyncio.timeout(None if streamed else self._budget_s(context)):
                        _, admitted = await self._admitted(outcome.identity, request, streamed=streamed)
                        return await behaviour(admitted, context)
                except TimeoutError as error:
                    await outcome.abort(_deadline_error(self._method, error))
                except Exception as error:
                    await outcome.abort(error)

        return answer

    def _stream(self, behaviour: Any, *, streamed: bool) -> Any:
        async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
            with _Outcome(self, context) as outcome:
                try:
                    rule, admitted = await self._admitted(outcome.identity, request, streamed=streamed)
                    produced = behaviour(admitted, context)
                    if hasattr(produced, "__aiter__"):
                        # Closed here and now, also where the caller went away between two answers.
                        async with contextlib.aclosing(produced) as responses:
                            async for response in _in_time(responses, self._left_s(context)):
                                if not streamed:
                                    self._guard.still(rule, outcome.identity, request)
                                yield response
                    else:  # a servicer that writes through the context
                        await produced
                except TimeoutError as error:
                    await outcome.abort(_deadline_error(self._method, error))
                except Exception as error:
                    await outcome.abort(error)

        return answer

    async def _admitted(self, identity: Identity, request: Any, *, streamed: bool) -> tuple[Rule, Any]:
        """The method's rule, and the request, or the requests of a stream, once the caller may make it. A method that
        reads its stream through the context is asked about once; those that name models in a stream do not."""
        rule = self._guard.admit(self._method, identity)
        if not streamed:
            if isinstance(request, Refused):
                raise request.error
            await self._guard.check(rule, identity, request)
            return rule, request
        return rule, self._guard.checked(rule, identity, request) if rule.model or rule.team else request

    def _left_s(self, context: Context) -> float | None:
        # None where the caller set no deadline, whatever the stubs say.
        return cast("float | None", context.time_remaining())

    def _budget_s(self, context: Context) -> float:
        left_s = self._left_s(context)
        if left_s is None:
            return rule_of(self._method).patience_s
        if left_s < DEADLINE_MIN_S:
            raise MeshError(
                Reason.DEADLINE_TOO_SHORT,
                f"{left_s * 1000:.1f} ms were left of the deadline of {self._method}; allow at least "
                f"{DEADLINE_MIN_S * 1000:.0f} ms",
            )
        return float(left_s)


class _Outcome:
    """Identity and span around a call, and what is counted and said when it ends."""

    def __init__(self, call: _Call, context: Context) -> None:
        self._call = call
        self._context = context
        self._code = Code.OK
        self._began_s = call._clock.monotonic()  # noqa: SLF001 - the two are one
        self._span: trace.Span = trace.INVALID_SPAN
        self.identity = Identity()

    def __enter__(self) -> "_Outcome":
        self.identity = set_identity(self._call._headers)  # noqa: SLF001
        tracing = self._call._tracing  # noqa: SLF001
        if tracing.exports:
            self._span = tracing.tracer.start_span(
                self._call._method.lstrip("/"),  # noqa: SLF001
                context=extract_context(self._call._headers),  # noqa: SLF001
                kind=trace.SpanKind.SERVER,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError | GeneratorExit):
            self._code = Code.CANCELLED
        call = self._call
        call._metrics.handled.labels(call._method, self._code.name).inc()  # noqa: SLF001
        call._metrics.seconds.labels(call._method).observe(call._clock.monotonic() - self._began_s)  # noqa: SLF001
        self._span.set_attribute("rpc.grpc.status_code", int(self._code))
        self._span.end()

    async def abort(self, error: Exception) -> None:
        """Ends the call with the error's details; never returns normally."""
        if isinstance(error, grpc.aio.AbortError | grpc.aio.BaseError):
            raise error
        known = error if isinstance(error, MeshError) else _masked(self._call._method, error)  # noqa: SLF001
        self._code = known.code
        status = status_from_error(known)
        status.message = fitting_message(known.message)
        trailers: list[tuple[str, str | bytes]] = [(STATUS_DETAILS_KEY, fitting_details(status))]
        if known.retry_after_s is not None:
            trailers.append(("retry-after", str(max(1, round(known.retry_after_s)))))
        grpc_code = next(code for code in grpc.StatusCode if code.value[0] == int(known.code))
        await self._context.abort(grpc_code, status.message, tuple(trailers))


async def _in_time(responses: AsyncIterator[Any], left_s: float | None) -> AsyncIterator[Any]:
    """The answers of a stream. Raises TimeoutError just before its caller's deadline: a stream that the deadline itself
    ends is reset, which callers behind the gateway see as a failure of the service."""
    ends_s = None if left_s is None else asyncio.get_running_loop().time() + max(0.0, left_s - _LAST_WORD_S)
    while True:
        async with asyncio.timeout_at(ends_s):
            try:
                response = await anext(responses)
            except StopAsyncIteration:
                return
        yield response


def _deadline_error(method: str, error: TimeoutError) -> MeshError:
    known = MeshError(
        Reason.DEADLINE_TOO_SHORT, f"{method} did not finish within its deadline; allow more time or ask for less"
    )
    known.__cause__ = error
    return known


def _masked(method: str, error: Exception) -> MeshError:
    """An unforeseen failure: the log gets everything, the caller gets the id under which to find it."""
    error_id = secrets.token_hex(6)
    log.exception("unforeseen failure", method=method, error_id=error_id, kind=type(error).__name__)
    return MeshError(
        Reason.INTERNAL,
        f"an unforeseen failure; the service's log has it under error_id {error_id}",
        metadata={"error_id": error_id},
    )
