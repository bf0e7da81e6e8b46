"""Copies of answered requests for shadow versions: sent when nobody waits for anything, compared, and reported.

A copy is made of what the caller's request has become, tensors and parameters, so no protocol plays a part in it. It
goes through the same engine as every prediction, where its priority gets only what is idle on a model server. What it
costs this process is bounded too: few copies are under way at once, the loop does one at a time, and none while its
thread has too much to do. Whatever does not fit is dropped and counted.
"""

import asyncio
from collections.abc import Mapping, Sequence

from services.batcher.domain.log_detail import Detail, InputHashes, detail_of
from services.batcher.domain.priority import Priority
from services.batcher.domain.refusals import METADATA_COLD, unforeseen
from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.domain.row_labels import ROWS_LOGGED_MAX, row_labels
from services.batcher.domain.serving import ShadowTarget
from services.batcher.domain.shadow_choice import place_of
from services.batcher.domain.shadow_compare import Answered, compare, method_of, outputs_to_ask, row_json
from services.batcher.domain.shadow_copies import Copy, Course, Room, detached
from services.batcher.domain.shadow_sums import CopyCounts, Example, PairSums
from services.batcher.faces.call import KIND_CALLER, KIND_RETRY, Call
from services.batcher.faces.catalog import Catalog, VersionPlan
from services.batcher.faces.ports import FinishedCopy, InferEngine, RequestLog
from services.batcher.faces.reasons import REASON_NUMBERS
from services.batcher.faces.spare import LOOK_EVERY_S, SpareTime
from services.common.clock import Clock
from services.common.errors import CATALOGUE, MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_COPIED = (KIND_CALLER, KIND_RETRY)
AT_ONCE_MAX = 32
"""Copies of one version in the engine: as many land in one turn of the loop."""
_SAYS_SOMETHING = 0.5
"""Of a copy's time, that it must have been with the model to have failed by being late."""
_NOT_FOR_NOW = (Reason.BACKEND_UNAVAILABLE, Reason.DEADLINE_TOO_SHORT)
_NEVER_SENT = (Reason.QUEUE_FULL, Reason.SHUTTING_DOWN)


class ShadowCopier:
    """A `Copier`. One a process."""

    def __init__(
        self,
        *,
        engine: InferEngine,
        catalog: Catalog,
        request_log: RequestLog,
        clock: Clock,
        spare: SpareTime,
        copies_max: int,
        bytes_max: int,
        timeout_s: float,
    ) -> None:
        """At most `copies_max` copies with `bytes_max` bytes are on their way, each for `timeout_s` from its caller's
        answer on."""
        self._engine = engine
        self._catalog = catalog
        self._log = request_log
        self._clock = clock
        self._spare = spare
        self._timeout_s = timeout_s
        self._hashes = InputHashes()
        self._room = Room(copies_max=copies_max, bytes_max=bytes_max)
        self._courses: dict[tuple[str, str], Course] = {}
        self._turn = asyncio.Lock()
        """Of comparing: many copies land in one turn of the loop, and each is compared in one of its own."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._closed = False

    def offer(self, call: Call, shadows: Sequence[ShadowTarget], *, answered_s: float) -> None:
        """A request was answered; its answer leaves after this returned."""
        request, result, plan = call.request, call.result, call.plan
        if self._closed or request is None or result is None or plan is None or call.kind not in _COPIED:
            return
        place = place_of(call.request_id)
        chosen = [target for target in shadows if place < target.percent]
        if not chosen:
            return
        for target in chosen:
            course = self._course(call.model_name, target.version)
            if answered_s < course.rests_until_s or self._room.full(course) or self._is_cold(course):
                course.drop(plan.served.version)
                continue
            size = sum([len(tensor.data) for tensor in (*request.inputs, *result.outputs)])
            if not self._room.take(size):
                course.drop(plan.served.version)
                continue
            result = detached(result)
            answered = Answered(plan.outputs, result, call.scores)
            course.pending.append(Copy(target, request, call.user, answered, answered_s, size))
            self._news.set()

    async def run(self) -> None:
        """Sends copies for as long as the process lives; a task of the lifecycle. Ends with all of them."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                # The answers of this turn leave first, those of requests that came with it too.
                await asyncio.sleep(0)
                await self._send_all()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """Makes no more copies, and drops those on their way."""
        self._closed = True
        for course in self._courses.values():
            self._drop_waiting(course)
        for task in self._tasks:
            task.cancel()

    def take_sums(self) -> Mapping[VersionPlan, Mapping[str, PairSums]]:
        """What comparisons showed since this was last asked, by the shadow version and the one that answered."""
        taken: dict[VersionPlan, Mapping[str, PairSums]] = {}
        for course in self._courses.values():
            if course.sums:
                sums, course.sums = course.sums, {}
                plan = self._plan(course.model_name, course.version)
                if plan is not None:
                    taken[plan] = sums
        return taken

    def counts(self) -> Mapping[tuple[str, str], CopyCounts]:
        """What became of copies since the start, by model name and shadow version."""
        return {key: course.counts for key, course in self._courses.items()}

    def shown(self) -> dict[str, object]:
        """For the operators' page."""
        return {
            "on_their_way": self._room.copies,
            "bytes": self._room.bytes,
            "thread_wants": round(self._spare.share, 2),
            "versions": [
                {
                    "model": course.model_name,
                    "version": course.version,
                    "waiting": len(course.pending),
                    "running": course.running,
                    "sent": course.counts.sent,
                    "answered": course.counts.answered,
                    "disagreed": course.counts.disagreed,
                    "failed": course.counts.failed,
                    "dropped": course.counts.dropped,
                    "last_failure": course.last_failure,
                }
                for course in self._courses.values()
            ],
        }

    async def _send_all(self) -> None:
        """Starts what may be started, one a turn of the loop."""
        while True:
            courses = [one for one in self._courses.values() if one.pending and one.running < AT_ONCE_MAX]
            if not courses:
                return
            if not self._spare.there:
                await self._clock.sleep(LOOK_EVERY_S)
                continue
            for course in courses:
                if course.pending:
                    self._start(course, course.pending.popleft())
                    await asyncio.sleep(0)

    def _start(self, course: Course, copy: Copy) -> None:
        course.running += 1
        name = f"shadow copy to {course.model_name} {course.version}"
        task = asyncio.get_running_loop().create_task(self._carry(course, copy), name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(course, copy, done))

    def _ended(self, course: Course, copy: Copy, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        course.running -= 1
        self._room.give_back(copy.size)
        if task.cancelled():
            course.drop(copy.answered.plan.served.version)
        if course.pending:
            self._news.set()

    async def _carry(self, course: Course, copy: Copy) -> None:
        """One copy, from here to what is noted of it."""
        plan = self._plan(course.model_name, course.version)
        if plan is None:
            return  # it is served no more
        began_s = self._clock.monotonic()
        try:
            request = self._request(copy, plan)
            result = await self._engine.infer(request)
            answered_s = self._clock.monotonic()
            async with self._turn:
                self._compared(course, copy, plan, request, result, answered_s, answered_s - began_s)
                await asyncio.sleep(0)
        except MeshError as error:
            self._failed(course, copy, plan, error, began_s)
        except Exception as error:
            known = unforeseen(error)
            if known.message != course.last_failure:
                log.exception("a shadow copy broke", model=course.model_name, version=course.version)
            self._failed(course, copy, plan, known, began_s)

    def _request(self, copy: Copy, plan: VersionPlan) -> InferRequest:
        """What the shadow version is asked. Raises SCHEMA_VIOLATION where it takes other tensors."""
        request, answered = copy.request, copy.answered
        rows, inputs = plan.tensors.checked(request.inputs)
        method = method_of(copy.target.comparison, answered.plan, plan.outputs)
        return InferRequest(
            plan.served,
            rows,
            inputs,
            copy.answered_s + self._timeout_s,
            outputs_to_ask(answered.result.outputs, plan.outputs, method=method),
            request.parameters,
            request.request_id,
            request.tenant,
            Priority.SHADOW,
        )

    def _compared(  # noqa: PLR0917
        self,
        course: Course,
        copy: Copy,
        plan: VersionPlan,
        request: InferRequest,
        result: InferResult,
        now_s: float,
        took_s: float,
    ) -> None:
        theirs = Answered(plan.outputs, result, plan.outputs.scores(result, request.rows))
        verdict = compare(copy.target.comparison, copy.answered, theirs)
        course.answers()
        course.counts.answered += 1
        run = result.batch
        # Without its wait for something idle: that says nothing about the version.
        self._note(
            copy,
            plan,
            now_s,
            run.seconds if run is not None else took_s,
            detail=self._detail(plan, request, theirs),
            compute_s=result.compute_s,
        )
        sums = course.pair(copy.answered.plan.served.version)
        sums.compared += 1
        if verdict.agree:
            return
        course.counts.disagreed += 1
        sums.disagreed += 1
        if sums.wants_example:
            mine = copy.answered.result
            row = verdict.row
            before = self._plan(course.model_name, copy.answered.plan.served.version)
            shown = (
                row_json(mine, row, before.redacted if before is not None else frozenset()),
                row_json(result, row, plan.redacted),
            )
            sums.examples.append(Example(request.request_id, copy.answered_s, row, *shown, verdict.difference))

    def _detail(self, plan: VersionPlan, request: InferRequest, answered: Answered) -> Detail | None:
        """What the log has of a copy beside the bare facts: the same as of a request."""
        after, result = plan.after, answered.result
        if after is None:
            return None
        labels = None
        if after.log_labels:
            labels = row_labels(plan.outputs, result, answered.scores, rows_max=ROWS_LOGGED_MAX)
        if after.recording is not None and after.recording.takes(request.request_id):
            return detail_of(after.recording, self._hashes, request=request, result=result, labels=labels)
        return Detail(labels) if labels is not None else None

    def _failed(self, course: Course, copy: Copy, plan: VersionPlan, error: MeshError, began_s: float) -> None:
        reason, now_s = error.reason, self._clock.monotonic()
        if reason is Reason.DEADLINE_TOO_SHORT and error.metadata.get("backends"):
            reason = Reason.BACKEND_UNAVAILABLE  # late for want of a backend: that is what is wrong
        cold = METADATA_COLD in error.metadata
        if cold or reason in _NEVER_SENT or (reason is Reason.DEADLINE_TOO_SHORT and not self._had_time(error)):
            course.drop(copy.answered.plan.served.version)
            return
        if reason in _NOT_FOR_NOW:
            # What was late still runs: more of it would take from callers what idle servers have no more.
            course.rest(now_s, at_least_s=self._timeout_s if reason is Reason.DEADLINE_TOO_SHORT else 0.0)
            self._drop_waiting(course)
        course.last_failure = error.message
        course.counts.failed += 1
        course.pair(copy.answered.plan.served.version).fail(reason)
        self._note(copy, plan, now_s, now_s - began_s, reason=reason)

    def _drop_waiting(self, course: Course) -> None:
        while course.pending:
            copy = course.pending.popleft()
            self._room.give_back(copy.size)
            course.drop(copy.answered.plan.served.version)

    def _had_time(self, error: MeshError) -> bool:
        """Whether a copy that was late was with the model for long: else it had waited for something idle, which says
        nothing about the version."""
        running_s = float(error.metadata.get("running_ms", "0")) / 1000
        return running_s >= _SAYS_SOMETHING * self._timeout_s

    def _note(
        self,
        copy: Copy,
        plan: VersionPlan,
        now_s: float,
        took_s: float,
        *,
        detail: Detail | None = None,
        reason: Reason | None = None,
        compute_s: float = 0.0,
    ) -> None:
        request = copy.request
        code, number = (int(CATALOGUE[reason]), REASON_NUMBERS[reason]) if reason is not None else (0, 0)
        self._log.add_copy(
            FinishedCopy(
                plan,
                request.request_id,
                copy.user,
                request.tenant,
                request.rows,
                now_s,
                took_s,
                code,
                number,
                detail,
                compute_s,
            )
        )

    def _course(self, model_name: str, version: str) -> Course:
        course = self._courses.get((model_name, version))
        if course is None:
            course = self._courses[model_name, version] = Course(model_name, version)
        return course

    def _is_cold(self, course: Course) -> bool:
        """Whether its version would have to be loaded, which no copy is worth."""
        plan = self._plan(course.model_name, course.version)
        return plan is not None and plan.served.cold

    def _plan(self, model_name: str, version: str) -> VersionPlan | None:
        """The version as it is served now."""
        model = self._catalog.find(model_name)
        return model.versions.get(version) if model is not None else None
