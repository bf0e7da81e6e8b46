"""What every face has in common: resolve a version, give the request to the engine, account for it."""

import asyncio
import secrets
from collections.abc import Sequence, Set
from typing import Protocol

from services.batcher.domain.cached import CachedAnswer
from services.batcher.domain.log_detail import Detail, InputHashes, detail_of
from services.batcher.domain.request import InferRequest, InferResult, Parameter, Tensor, check_parameters
from services.batcher.domain.row_labels import ROWS_LOGGED_MAX, row_labels
from services.batcher.domain.serving import ShadowTarget
from services.batcher.faces.call import Call
from services.batcher.faces.caller import Callers
from services.batcher.faces.catalog import Aftermath, Catalog, VersionPlan
from services.batcher.faces.ports import FeatureJoiner, InferEngine, RequestLog
from services.batcher.faces.reasons import REASON_NUMBERS
from services.batcher.telemetry.failures import LastFailures
from services.batcher.telemetry.timings import Timings
from services.batcher.telemetry.traces import Trace, Traces
from services.common.clock import Clock
from services.common.errors import CATALOGUE, MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)


class OpenStream(Protocol):
    """A stream that may bring more requests."""

    def close_soon(self) -> None:
        """Takes no more, answers what there is, ends the stream."""
        ...

    def turn_away(self, revoked: Set[str]) -> None:
        """The same where one of these keys opened it: nobody knows its caller any more."""
        ...


class AnswerCache(Protocol):
    """Whoever answers requests of deterministic versions, out of what was answered before where it can."""

    async def infer(self, request: InferRequest) -> CachedAnswer:
        """The request's own rows, or MeshError. Cancelling is free at any time."""
        ...


class Copier(Protocol):
    """Whoever sends copies of answered requests to shadow versions. Takes a microsecond and never fails."""

    def offer(self, call: Call, shadows: Sequence[ShadowTarget], *, answered_s: float) -> None:
        """A request was answered; its answer leaves after this returned."""
        ...


class Core:
    """The path that all protocols share."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        engine: InferEngine,
        cache: AnswerCache | None = None,
        features: FeatureJoiner,
        request_log: RequestLog,
        clock: Clock,
        copier: Copier | None = None,
        traces: Traces | None = None,
        timed: bool = True,
        deadline_default_s: float,
        deadline_max_s: float,
    ) -> None:
        self.catalog = catalog
        self._engine = engine
        self._cache = cache
        self.features = features
        self._log = request_log
        self._copier = copier
        self.callers = Callers()
        """Who came lately."""
        self.monotonic = clock.monotonic
        self._now = clock.now
        self._traces = traces
        self.failures = LastFailures()
        """The last requests that failed."""
        self._hashes = InputHashes()
        self._timed = timed
        self.timings = Timings()
        """The times of answered requests."""
        self._deadline_default_s = deadline_default_s
        self._deadline_max_s = deadline_max_s
        self.begun = 0
        """Requests so far: that it stands still shows that nobody asks any more."""
        self.streams: set[OpenStream] = set()
        """Streams that may bring more requests."""
        self.revoked: frozenset[str] = frozenset()
        """Keys that are revoked. The gateway refuses what they ask; streams that are open it cannot end."""
        self.in_flight: set[Call] = set()
        """Requests being worked on; a drain waits until there is none."""

    def resolve(self, call: Call, model_name: str, version: str) -> VersionPlan:
        """The version that answers. Precedence: the body's, `x-model-version`, the route's, the model's default. Raises
        MODEL_NOT_SERVED, also for models that the caller may not see, VERSION_NOT_SERVED, or INVALID_FIELD."""
        catalog = self.catalog
        model = catalog.model(model_name, call.caller)
        call.model_name = model_name
        plan = catalog.version(model, version or call.routed_version)
        call.plan = plan
        return plan

    async def infer(
        self,
        call: Call,
        *,
        rows: int,
        inputs: tuple[Tensor, ...],
        outputs: tuple[str, ...] = (),
        parameters: tuple[tuple[str, Parameter], ...] = (),
        timeout_ms: float = 0.0,
    ) -> InferResult:
        """Has the resolved version answer. Raises MeshError."""
        plan = call.plan
        assert plan is not None, "a face resolves the version first"
        if parameters:
            check_parameters(parameters)
        call.rows = rows
        request = InferRequest(
            plan.served,
            rows,
            inputs,
            self._deadline_s(call, timeout_ms),
            outputs,
            parameters,
            call.request_id,
            call.team,
            call.priority,
            call.trace.runs if call.trace is not None else None,
        )
        call.request = request
        # A shadow copy measures the model: it may not be answered by anything else.
        if plan.served.deterministic and self._cache is not None and not call.shadow:
            answered = await self._cache.infer(request)
            result, call.cached = answered.result, answered.outcome
        else:
            result = await self._engine.infer(request)
        call.result = result
        call.compute_s = result.compute_s
        call.scores = plan.outputs.scores(result, rows)
        return result

    def _deadline_s(self, call: Call, timeout_ms: float) -> float:
        left_s = call.grpc_timeout_s()
        limit_s = self._deadline_default_s if left_s is None and not timeout_ms else self._deadline_max_s
        if left_s is not None and left_s < limit_s:
            limit_s = left_s
        if timeout_ms and timeout_ms < limit_s * 1000:
            limit_s = timeout_ms / 1000
        deadline_s = call.arrived_s + limit_s
        call.queued_s = self.monotonic()
        if deadline_s <= call.queued_s:
            raise MeshError(
                Reason.DEADLINE_TOO_SHORT,
                f"the time limit of {limit_s * 1000:g} ms (timeout_ms or grpc-timeout) was over before the request "
                "could be queued; allow more",
            )
        return deadline_s

    def revoke(self, keys: frozenset[str]) -> None:
        """These are the keys that are revoked now: streams that they opened end."""
        self.revoked = keys
        for stream in tuple(self.streams):
            stream.turn_away(keys)

    def begin(self, call: Call) -> None:
        """The request is being worked on."""
        self.in_flight.add(call)
        self.begun += 1
        if self._traces is not None:
            call.trace = self._traces.begin(call.headers, call.arrived_s)

    def end(self, call: Call) -> None:
        """The request is worked on no more, whatever became of it."""
        self.in_flight.discard(call)
        if call.answered:
            self._account(call)
        if call.trace is not None:
            self._end_trace(call, call.trace)

    def _end_trace(self, call: Call, trace: Trace) -> None:
        plan = call.plan
        trace.queued_s, trace.ended_s = call.queued_s, self.monotonic()
        trace.model_name, trace.version = call.model_name, plan.served.version if plan is not None else ""
        trace.rows, trace.request_id = call.rows, call.request_id
        if plan is not None:
            took_s = (call.predicted_s or trace.ended_s) - call.arrived_s
            plan.stats.traced(trace.trace_id, took_s, ended_at_s=self._now().timestamp())
        assert self._traces is not None, "a trace was begun"
        self._traces.end(trace)

    def latency_ms(self, call: Call) -> float:
        """From the arrival until now, in milliseconds."""
        return (self.monotonic() - call.arrived_s) * 1000

    def succeeded(self, call: Call) -> None:
        """There is an answer. It is accounted for in `end`, when it is written."""
        call.answered = True

    def _account(self, call: Call) -> None:
        # Explanations take thousands of rows: counted as the prediction's, they would drown its latency.
        ended_s = call.predicted_s or self.monotonic()
        plan = call.plan
        assert plan is not None, "an answer has a version"
        stats = plan.stats
        # A shadow copy's predictions are nobody's: they must not count among those that callers got.
        stats.answered(None if call.shadow else call.scores)
        result = call.result
        if self._timed:
            run = result.batch if result is not None else None
            # Whoever joined the computation of another request was in no batch of its own.
            if run is not None and run.sent_s >= call.queued_s:
                self.timings.note(stats, call.arrived_s, call.queued_s, run, ended_s)
            else:
                stats.took(ended_s - call.arrived_s)
        if plan.after is None:
            self._log.add(call, ended_s=ended_s, code=0, reason=0)
        else:
            self._follow(call, plan, plan.after, ended_s)

    def _follow(self, call: Call, plan: VersionPlan, after: Aftermath, ended_s: float) -> None:
        """What is done with an answer where the serving table asks for more than giving it."""
        detail: Detail | None = None
        recording, result = after.recording, call.result
        if after.log_labels and result is not None:
            detail = Detail(row_labels(plan.outputs, result, call.scores, rows_max=ROWS_LOGGED_MAX))
        if recording is not None and recording.takes(call.request_id):
            labels = detail.labels if detail is not None else None
            detail = detail_of(recording, self._hashes, request=call.request, result=result, labels=labels)
        self._log.add(call, ended_s=ended_s, code=0, reason=0, detail=detail)
        if after.shadows and self._copier is not None:
            self._copier.offer(call, after.shadows, answered_s=ended_s)

    def _detail_of_failed(self, call: Call) -> Detail | None:
        """What is noted of a request that failed: all of them are logged. Without a hash where it was not read yet."""
        after = call.plan.after if call.plan is not None else None
        if after is None or after.recording is None or call.request is None or not after.recording.input_hash:
            return None
        return detail_of(after.recording, self._hashes, request=call.request, result=None)

    def failed(self, call: Call, error: BaseException, *, face: str) -> MeshError:
        """Accounts for a failure and says what the caller is told. Unforeseen ones are logged; only their id leaves."""
        known = error if isinstance(error, MeshError) else self._masked(call, error, face)
        call.answered = False
        ended_s = call.predicted_s or self.monotonic()
        if call.plan is not None:
            stats = call.plan.stats
        else:
            model = self.catalog.find(call.model_name) if call.model_name else None
            stats = model.stats if model is not None else self.catalog.unknown
        stats.failed(known.reason)
        if self._timed:
            stats.took(ended_s - call.arrived_s)
        if call.model_name:
            code, reason = int(CATALOGUE[known.reason]), REASON_NUMBERS[known.reason]
            self._log.add(call, ended_s=ended_s, code=code, reason=reason, detail=self._detail_of_failed(call))
        self.failures.note(
            ended_s=ended_s,
            model_name=call.model_name,
            version=call.plan.served.version if call.plan is not None else "",
            request_id=call.request_id,
            reason=known.reason,
            message=known.message,
        )
        if call.trace is not None:
            call.trace.error = known
        return known

    def _masked(self, call: Call, error: BaseException, face: str) -> MeshError:
        if isinstance(error, asyncio.CancelledError):
            return MeshError(Reason.CALLER_CANCELLED, "the caller went away")
        error_id = secrets.token_hex(8)
        log.exception(
            "unforeseen failure",
            error_id=error_id,
            face=face,
            model=call.model_name,
            request_id=call.request_id,
            kind=type(error).__name__,
        )
        return MeshError(
            Reason.INTERNAL,
            f"an unforeseen failure; give the operator its id: {error_id}",
            metadata={"error_id": error_id},
        )


def requested_outputs(plan: VersionPlan, names: Sequence[str]) -> tuple[str, ...]:
    """The outputs to ask the engine for: empty where all are wanted in the schema's order."""
    specs = plan.outputs.specs
    return () if list(names) == list(specs) else tuple(names)
