"""How much a version was asked for, read off its lane every few seconds. The way of a request pays two additions."""

from services.batcher.domain.demand import Demand
from services.batcher.engines.lane import Lane


def take_demand(lane: Lane, now_s: float) -> Demand | None:
    """Since it was last asked; None where nobody came, waits, or is on the way. Shadow copies are nobody."""
    callers, explanations, copies, jobs = lane.backlog.tiers
    came = callers.came + explanations.came + jobs.came
    if not (came or lane.flights or lane.rows_waiting or lane.waited_max_s):
        return None  # nearly all of thousands, and the loop is held while they are looked at
    rows = 0
    for tier in (callers, explanations, jobs):
        rows += tier.rows_came
        tier.came = tier.rows_came = 0
    waited_s, lane.waited_max_s = lane.waited_max_s, 0.0
    recoveries = lane.recoveries
    again = [member for _, members in recoveries.again for member in members]
    later = sum([len(members) for _, members in recoveries.later])
    lines = [line for tier in (callers, explanations) for line in tier.lines()]
    queued = len(again) + later + sum(map(len, lines)) + sum(map(len, jobs.lines()))
    in_flight = sum([len(flight.members) for flight in lane.flights if flight.group.tier is not copies])
    if not (came or in_flight or queued):
        return None
    since = [line.oldest_s() for line in lines] + [member.arrived_s for member in again]
    waited_s = max(waited_s, now_s - min(since, default=now_s))
    return Demand(lane.served.model_name, lane.served.version, came, rows, in_flight, queued, waited_s)
