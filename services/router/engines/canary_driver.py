"""Drives a canary: looks at it whenever evidence comes, time passes or something changes, and carries out what follows.

What is decided is stored before anyone is told, with the rule and the leader's token in one transaction: a router that
dies in between leaves a canary that was never moved, and one that no longer leads moves none. Nothing of a canary is
kept here alone, so another router, or this one after a restart, goes on in the middle of a stage.
"""

from collections.abc import Sequence

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.signals import wait_at_most
from services.common.telemetry.logging import get_logger
from services.router.domain.canary import Canary
from services.router.domain.canary_document import canary_of, results_of, shown
from services.router.domain.canary_steps import Look, Step, decided, next_look_s, stage_criteria
from services.router.domain.criteria import CriterionResult, judged
from services.router.domain.evidence import Evidence, VersionEvidence, counted_since
from services.router.domain.rollouts import Mismatch, Rollout
from services.router.engines.canary_saving import CanarySaving
from services.router.engines.evidence import EvidenceWatch
from services.router.engines.leadership import Leadership
from services.router.engines.publisher import Publisher
from services.router.engines.rollouts import Rollouts
from services.router.ports import EvidenceSource

log = get_logger(__name__)

_LOOK_S = 1.0
"""At least so often it is looked whether the version is ready."""
_NOTE_S = 10.0
"""So often what it shows is stored, for other routers and for after a restart; verdicts that change are at once."""
_AGAIN_S = 0.5
_JUDGING_MAX = 0.25
_LATEST_WEIGHT = 0.2
_DROPPED_MAX = 0.05
"""The share of the requests that batchers may have dropped from their log before nothing is proven by it any more."""


class JudgingPace:
    """Keeps judging to a quarter of the time, however many canaries there are and however many limits they have: a
    judgement by all limits takes some 20 ms, and this is the router's only thread."""

    def __init__(self) -> None:
        self._cost_s = 0.0

    def spent(self, seconds: float) -> None:
        """A judgement has taken so long."""
        self._cost_s += (seconds - self._cost_s) * _LATEST_WEIGHT

    def pause_s(self, *, canaries: int) -> float:
        """How long each of so many canaries goes on by what it was judged by last."""
        return self._cost_s * canaries / _JUDGING_MAX


class CanaryDriver:
    """Drives any number of canaries, one call of `drive` each."""

    def __init__(
        self,
        *,
        saving: CanarySaving,
        rollouts: Rollouts,
        leadership: Leadership,
        publisher: Publisher,
        source: EvidenceSource,
        clock: Clock,
    ) -> None:
        self._saving = saving
        self._rollouts = rollouts
        self._leadership = leadership
        self._publisher = publisher
        self._source = source
        self._clock = clock
        self._pace = JudgingPace()
        self._driven = 0

    async def drive(self, rollout: Rollout) -> None:
        """Returns once the canary has ended, or this router does not lead any more."""
        drive = _Drive(rollout, now_s=self._clock.monotonic())
        self._driven += 1
        try:
            while await self._stage(drive):
                log.info("a stage of a canary has begun", model=rollout.model_name, percent=drive.canary.percent)
        finally:
            self._driven -= 1
            self._saving.live.pop(rollout.rollout_id, None)

    async def _stage(self, drive: "_Drive") -> bool:
        """Drives a stage; whether another one has begun."""
        canary = drive.canary
        watch = EvidenceWatch(
            self._source,
            canary.model_name,
            (canary.version, canary.baseline_version),
            counted_since(canary.stage_started_at),
            clock=self._clock,
            told=lambda: self._rollouts.woken(canary.model_name).fire(),
        )
        async with watch:
            while drive.canary.stage_started_at == canary.stage_started_at:
                woken = self._rollouts.woken(canary.model_name).current
                fence = self._leadership.token
                if fence is None or not drive.keep_up(self._rollouts.running.get(canary.model_name)):
                    return False
                if drive.canary.stage_started_at == canary.stage_started_at and not await self._move(
                    drive, watch, fence
                ):
                    wait_s = next_look_s(drive.canary, self._clock.now(), most_s=_LOOK_S)
                    await wait_at_most(woken, wait_s)
        return True

    async def _move(self, drive: "_Drive", watch: EvidenceWatch, fence: int) -> bool:
        """Carries out what follows from how things are; whether anything did."""
        began_s = self._clock.monotonic()
        look = self._look(drive, watch)
        try:
            step = await self._saving.overtaken(drive.canary, drive.results) or decided(drive.canary, look)
            if step is None:
                await self._note(drive, watch.error)
                return False
            saved = await self._saving.carry_out(drive.rollout, step, fence=fence)
        except MeshError as error:
            log.warning(
                "a canary cannot be moved; it is tried again", model=drive.canary.model_name, error=error.message
            )
            await self._clock.sleep(_AGAIN_S)
            return False
        if isinstance(saved, Mismatch):
            # What was read anew is known in a moment.
            return False
        _log_step(drive.canary, step, ms=(self._clock.monotonic() - began_s) * 1000)
        return True

    def _look(self, drive: "_Drive", watch: EvidenceWatch) -> Look:
        now = self._clock.now()
        unready_s = drive.unready_for(ready=self._ready(drive.canary), now_s=self._clock.monotonic())
        if watch.evidence is None:
            return Look(now, unready_s=unready_s, followed_s=watch.followed_s)
        evidence = self._judged(drive, watch.evidence)
        return Look(
            now,
            results=drive.results,
            requests=_of(evidence, drive.canary.version).requests,
            complete=_complete(evidence),
            seen_until=evidence.window_end,
            unready_s=unready_s,
            followed_s=watch.followed_s,
        )

    def _judged(self, drive: "_Drive", newest: Evidence) -> Evidence:
        """What the canary is judged by now: the newest evidence, unless it was judged a moment ago and that was not
        before the end of its stage."""
        began_s, pause_s = self._clock.monotonic(), self._pace.pause_s(canaries=self._driven)
        before, ends_at = drive.judged, drive.canary.stage_ends_at
        if before is not None:
            reaches_the_end = before.window_end < ends_at <= newest.window_end
            if newest is before or (began_s - drive.judged_s < pause_s and not reaches_the_end):
                return before
        drive.judge(newest, now_s=began_s)
        self._pace.spent(self._clock.monotonic() - began_s)
        return newest

    def _ready(self, canary: Canary) -> bool:
        model = self._publisher.backends.get(canary.model_name)
        return not self._publisher.known or (model is not None and canary.version in model.version_names)

    async def _note(self, drive: "_Drive", error: str) -> None:
        error = error or drive.incomplete
        self._saving.live[drive.rollout.rollout_id] = drive.results, error
        now_s, says = self._clock.monotonic(), ([result.verdict for result in drive.results], error)
        if says != drive.noted or now_s - drive.noted_s >= _NOTE_S:
            drive.noted, drive.noted_s = says, now_s
            await self._rollouts.note(drive.rollout, shown(drive.results, evidence_error=error))


class _Drive:
    """What is known of a canary while it is driven."""

    def __init__(self, rollout: Rollout, *, now_s: float) -> None:
        self.rollout = rollout
        self.canary = canary_of(rollout)
        self.results: Sequence[CriterionResult] = results_of(rollout)[0]
        """How it stands; until it is judged here, as it was kept."""
        self.incomplete = ""
        """Why the evidence proves nothing although there is some; empty: it does."""
        self.noted: object = None
        self.noted_s = now_s
        self.judged: Evidence | None = None
        """What it was judged by last in its stage."""
        self.judged_s = now_s
        self._unready_since_s: float | None = None

    def keep_up(self, newest: Rollout | None) -> bool:
        """Takes the rollout as it is now; whether it still runs."""
        if newest is None or newest.rollout_id != self.rollout.rollout_id:
            return False
        if newest.generation > self.rollout.generation:
            before, self.rollout, self.canary = self.canary, newest, canary_of(newest)
            if self.canary.stage_started_at != before.stage_started_at:
                self.results, self.incomplete, self.judged = (), "", None
        return True

    def judge(self, evidence: Evidence, *, now_s: float) -> None:
        """Finds how it stands by `evidence`."""
        self.judged, self.judged_s = evidence, now_s
        self.incomplete = "" if _complete(evidence) else _dropped(evidence)
        self.results = judged(
            stage_criteria(self.canary),
            canary=_of(evidence, self.canary.version),
            baseline=_of(evidence, self.canary.baseline_version),
            alpha=self.canary.alpha,
        )

    def unready_for(self, *, ready: bool, now_s: float) -> float:
        """For how many seconds its version has not been ready."""
        if ready:
            self._unready_since_s = None
            return 0.0
        if self._unready_since_s is None:
            self._unready_since_s = now_s
        return now_s - self._unready_since_s


def _of(evidence: Evidence, version: str) -> VersionEvidence:
    return evidence.versions.get(version, VersionEvidence(version))


def _seen(evidence: Evidence) -> int:
    return sum(one.requests for one in evidence.versions.values())


def _complete(evidence: Evidence) -> bool:
    return evidence.dropped <= _DROPPED_MAX * (_seen(evidence) + evidence.dropped)


def _dropped(evidence: Evidence) -> str:
    return (
        f"batchers dropped {evidence.dropped} requests from their log and {_seen(evidence)} were seen: limits can be "
        "found broken, and none is proven to be kept"
    )


def _log_step(canary: Canary, step: Step, *, ms: float) -> None:
    log.info(
        "a canary has moved",
        model=canary.model_name,
        version=canary.version,
        status=step.canary.status,
        percent=step.canary.percent,
        held=step.canary.held_since is not None,
        reason=step.canary.status_reason,
        ms=round(ms, 1),
    )
