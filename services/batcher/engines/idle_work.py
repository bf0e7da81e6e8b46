"""What gets only what is idle: the shadow copies and the batch jobs of one version.

Neither leaves while its server runs anything that somebody waits for, nor where more than a few callers have met any
there lately, and each version has one batch of them there at a time: of jobs a brief one where callers are near. Jobs
that were given nothing for long are given one batch all the same; copies never are.
"""

from typing import TYPE_CHECKING

from services.batcher.domain.fairness import Tier
from services.batcher.domain.places import Place, choose
from services.batcher.domain.policy import NEVER
from services.batcher.domain.priority import Priority
from services.batcher.engines.group import Group, group_of

if TYPE_CHECKING:
    from services.batcher.engines.lane import Lane

_LOOK_S = 0.05
"""How often a batch job that is overdue looks for a place that may be tried again, and shadow copies and jobs for a
server that takes any again."""


class IdleWork:
    """Of one lane."""

    __slots__ = ("_at", "_copies", "_jobs", "_lane", "_patience_s", "since_s")

    def __init__(self, lane: "Lane", *, copies: Tier, jobs: Tier, patience_s: float) -> None:
        """Jobs that were given nothing for `patience_s` are overdue."""
        self._lane = lane
        self._copies = copies
        self._jobs = jobs
        self._patience_s = patience_s
        self._at: dict[Place, int] = {}
        """Where its batches are, and how many the server had served when they left."""
        self.since_s = NEVER
        """Since when batch jobs wait, or when the latest of them left."""

    def waits(self, now_s: float) -> bool:
        """Whether anything does. Overdue jobs are sent first."""
        recoveries = self._lane.recoveries
        if not (recoveries.later or self._jobs.waits):
            self.since_s = NEVER
            return bool(recoveries.copies) or self._copies.waits
        if self.since_s == NEVER:
            self.since_s = now_s
        elif now_s >= self.since_s + self._patience_s:
            self._send_jobs(self._lane.places, now_s)
        return True

    def pump(self, now_s: float) -> float:
        """Sends what may be sent. Returns when to look again."""
        lane = self._lane
        places, recoveries = lane.places, lane.recoveries
        if not places:
            return NEVER  # whoever lists one looks here
        taking = [place for place in places if place.server.takes_copies(now_s)]
        doing = [place for place in places if place.server.takes_jobs(now_s)]
        copies_left = not self._send_copies([place for place in taking if place.server.idle], now_s)
        jobs_left = not self._send_jobs([place for place in doing if place.server.idle], now_s)
        for place in places:
            idle = place.server.idle
            # An idle one that takes no jobs now, because of callers, is looked at when the next of them has gone.
            if (jobs_left and not (idle and place in doing)) or (copies_left and not idle and place in taking):
                place.server.wanted.add(lane.pump_soon)
        quiet = (copies_left and len(taking) < len(places)) or (jobs_left and len(doing) < len(places))
        wake_s = now_s + _LOOK_S if quiet else NEVER
        if recoveries.later or self._jobs.waits:
            # Overdue, it waits for a landing, which looks here too, or for a place that rests.
            wake_s = min(wake_s, max(self.since_s + self._patience_s, now_s + _LOOK_S))
        return wake_s

    def rows_each(self, group: Group, now_s: float) -> int:
        """The most rows of one part of a job's request that comes now: what leaves, leaves whole."""
        lane = self._lane
        if any(place.server.callers_near(now_s) for place in lane.places):
            return group.policy.rows_brief(lane.served.batching)
        return lane.rows_max

    def departed(self, place: Place) -> None:
        """One of its batches left."""
        server = place.server
        self._at[place] = server.served
        server.background += 1

    def landed(self, place: Place, priority: Priority, now_s: float, *, callers_wait: bool) -> None:
        """It is back. `callers_wait`: those of this version do, and will leave now that it is."""
        server = place.server
        server.background -= 1
        met = server.served - self._at.pop(place, server.served)
        if callers_wait or server.awaited:
            met += 1
        meetings = server.copies if priority is Priority.SHADOW else server.jobs
        meetings.met(met, server.served, now_s)

    def _send_copies(self, places: list[Place], now_s: float) -> bool:
        """Sends one batch of shadow copies to each of the places that has none yet. Returns whether none is left."""
        lane, tier = self._lane, self._copies
        while lane.recoveries.copies or tier.waits:
            place = self._place_without(places, now_s)
            if place is None:
                return False
            if lane.recoveries.copies:
                lane.resend(*lane.recoveries.next_copies(), place, now_s)
            else:
                self._depart_next(tier, place, now_s)
        return True

    def _send_jobs(self, places: list[Place], now_s: float) -> bool:
        """The same of batch jobs."""
        lane, tier = self._lane, self._jobs
        while lane.recoveries.later or tier.waits:
            place = self._place_without(places, now_s)
            if place is None:
                return False
            self.since_s = now_s
            if lane.recoveries.later:
                lane.resend(*lane.recoveries.next_later(), place, now_s)
            else:
                self._depart_next(tier, place, now_s)
        return True

    def _place_without(self, places: list[Place], now_s: float) -> Place | None:
        """One that has room and no batch yet of those that get only what is idle."""
        return choose([place for place in places if place not in self._at], self._lane.rows_max, now_s)

    def _depart_next(self, tier: Tier, place: Place, now_s: float) -> None:
        lane = self._lane
        line = next(tier.in_turn(rows_max=lane.rows_max))
        group = group_of(line.queue)
        policy, batching = group.policy, lane.served.batching
        rows_max = policy.rows_brief(batching) if place.server.callers_near(now_s) else policy.rows_max(batching)
        lane.depart(line, place, min(group.rows_max, rows_max), now_s)
