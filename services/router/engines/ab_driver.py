"""Drives A/B tests: looks at each whenever evidence comes, time passes or something changes, and ends it when due.

As with canaries, what is decided is stored with the rule and the leader's token in one transaction, and nothing of a
test is kept here alone. A model has one test at a time, and so one stream of evidence.
"""

from dataclasses import replace

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.signals import wait_at_most
from services.common.telemetry.logging import get_logger
from services.router.domain.ab_document import ab_test_of, shown
from services.router.domain.ab_steps import UNREADY_GRACE_S, AbLook, Excess, decided, excess_of
from services.router.domain.ab_test import SETTLED, AbTest
from services.router.domain.evidence import Evidence
from services.router.domain.rollouts import Rollout, Saved
from services.router.engines.ab_tests import AbTests
from services.router.engines.evidence import EvidenceWatch
from services.router.engines.leadership import Leadership
from services.router.engines.publisher import Publisher
from services.router.engines.rollouts import Rollouts
from services.router.ports import EvidenceSource

log = get_logger(__name__)

_LOOK_S = 1.0
_NOTE_S = 10.0
"""So often what a test shows is stored, for other routers and for after a restart."""
_AGAIN_S = 0.5


class AbTestDriver:
    """Drives any number of tests, one call of `drive` each."""

    def __init__(
        self,
        *,
        tests: AbTests,
        rollouts: Rollouts,
        leadership: Leadership,
        publisher: Publisher,
        source: EvidenceSource,
        clock: Clock,
    ) -> None:
        self._tests = tests
        self._rollouts = rollouts
        self._leadership = leadership
        self._publisher = publisher
        self._source = source
        self._clock = clock

    async def drive(self, rollout: Rollout) -> None:
        """Returns once the test has ended, or this router does not lead any more."""
        test = ab_test_of(rollout)
        # There is no evidence on what has not been yet; a clock that was set back must not keep anyone from looking.
        left_s = (test.counted_from - self._clock.now()).total_seconds()
        await self._clock.sleep(min(max(0.0, left_s), SETTLED.total_seconds()))
        watch = EvidenceWatch(
            self._source,
            test.model_name,
            tuple(test.plan.versions),
            test.counted_from,
            clock=self._clock,
            told=lambda: self._rollouts.woken(test.model_name).fire(),
        )
        try:
            async with watch:
                await self._follow(_Drive(rollout, test, noted_s=self._clock.monotonic() - _NOTE_S), watch)
        finally:
            self._tests.live.pop(rollout.rollout_id, None)

    async def _follow(self, drive: "_Drive", watch: EvidenceWatch) -> None:
        model_name = drive.test.model_name
        while True:
            woken = self._rollouts.woken(model_name).current
            fence, newest = self._leadership.token, self._rollouts.running.get(model_name)
            if fence is None or newest is None or newest.rollout_id != drive.rollout.rollout_id:
                return
            drive.rollout = newest
            try:
                if await self._moved(drive, watch, fence):
                    return
            except MeshError as error:
                log.warning("an A/B test cannot be looked after", model=model_name, error=error.message)
                await self._clock.sleep(_AGAIN_S)
            left_s = (drive.test.ends_at - self._clock.now()).total_seconds()
            await wait_at_most(woken, min(_LOOK_S, left_s) if left_s > 0.0 else _LOOK_S)

    async def _moved(self, drive: "_Drive", watch: EvidenceWatch, fence: int) -> bool:
        """Carries out what follows from how things are; whether that ended the test."""
        began_s = self._clock.monotonic()
        if watch.evidence is not None:
            self._tests.live[drive.rollout.rollout_id] = watch.evidence
        test, look = drive.test, self._look(drive, watch)
        step = await self._tests.overtaken(drive.rollout)
        step = step or decided(test, look, self._tests.in_force(test.model_name)[1])
        if step is None:
            await self._note(drive)
            return False
        saved = await self._tests.carry_out(drive.rollout, step, fence=fence)
        if not isinstance(saved, Saved):
            # What was read anew is known in a moment.
            return False
        log.info(
            "an A/B test has ended",
            model=test.model_name,
            test=test.name,
            status=step.test.status,
            reason=step.why,
            ms=round((self._clock.monotonic() - began_s) * 1000, 1),
        )
        return True

    def _look(self, drive: "_Drive", watch: EvidenceWatch) -> AbLook:
        test, evidence = drive.test, watch.evidence
        look = AbLook(self._clock.now(), followed_s=watch.followed_s)
        excess = drive.judge(evidence) if evidence is not None else None
        unready = drive.unready(self._ready(test), now_s=self._clock.monotonic())
        over = look.now >= test.ends_at and _reaches_the_end(test, evidence)
        # Figures are computed when something is decided by them, not every second.
        decides = over or look.given_up(test) or excess is not None or unready
        last = self._tests.results(drive.rollout) if decides else None
        return replace(look, excess=excess, results=last if over else None, last=last, unready=unready)

    def _ready(self, test: AbTest) -> str:
        """A version that is not ready; empty: all are."""
        if not self._publisher.known:
            return ""
        model = self._publisher.backends.get(test.model_name)
        names = model.version_names if model is not None else ()
        return next((version for version in test.plan.versions if version not in names), "")

    async def _note(self, drive: "_Drive") -> None:
        now_s = self._clock.monotonic()
        if drive.rollout.rollout_id not in self._tests.live or now_s - drive.noted_s < _NOTE_S:
            return
        drive.noted_s = now_s
        results = self._tests.results(drive.rollout)
        if results is not None:
            await self._rollouts.note(drive.rollout, shown(results))


class _Drive:
    """What is known of a test while it is driven."""

    def __init__(self, rollout: Rollout, test: AbTest, *, noted_s: float) -> None:
        self.rollout = rollout
        self.test = test
        """It only changes by ending."""
        self.noted_s = noted_s
        self._judged: Evidence | None = None
        self._excess: Excess | None = None
        self._away: tuple[str, float] | None = None

    def judge(self, evidence: Evidence) -> Excess | None:
        """The version that fails too often; the same evidence is judged once."""
        if evidence is not self._judged:
            self._judged, self._excess = evidence, excess_of(self.test.plan, evidence)
        return self._excess

    def unready(self, version: str, *, now_s: float) -> str:
        """`version` once it has been the one that is not ready for too long; else empty."""
        if not version:
            self._away = None
            return ""
        if self._away is None or self._away[0] != version:
            self._away = version, now_s
        return version if now_s - self._away[1] >= UNREADY_GRACE_S else ""


def _reaches_the_end(test: AbTest, evidence: Evidence | None) -> bool:
    # Evidence is to the second.
    return evidence is not None and evidence.window_end >= test.ends_at.replace(microsecond=0)
