"""What requests were to the teams that made them, for those who watch: what `usage` keeps for good, as it comes.

By team alone and not by model: a team's bill is looked at by hour elsewhere, here somebody wants to know who calls so
much, and who is turned away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from services.common.errors import CATALOGUE, Code, Reason
from services.monitor.domain.faults import is_fault
from services.monitor.domain.measures import ReasonName
from services.monitor.domain.records import CALLER_KINDS, Group

_MILLI = 1000


class TeamOutcome(StrEnum):
    """What came of a team's requests."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """There was no room, or a quota was reached."""
    CALLERS_FAULT = "callers_fault"
    """It would have failed anywhere: a bad input, a call that was hung up."""
    FAILED = "failed"
    """By the platform's or the model's fault."""


CHARGED = (TeamOutcome.ANSWERED, TeamOutcome.CALLERS_FAULT)


@dataclass(frozen=True, slots=True)
class TeamTally:
    """Requests of one team with one outcome."""

    team: str
    outcome: TeamOutcome
    requests: int
    predictions: int
    """Rows that were answered."""
    compute_us: int
    """Time of model servers."""
    gpu_milli_us: int
    """The same times the thousandths of GPUs that a replica has."""


def tallies_of(group: Group, *, reason_name: ReasonName) -> Sequence[TeamTally]:
    """A group's callers' requests and rows of jobs, by team and outcome. Copies, retries and warm-ups are nobody's."""
    callers: npt.NDArray[np.bool_] = np.isin(group.kinds, CALLER_KINDS)
    if not callers.any():
        return ()
    outcomes = list(TeamOutcome)
    outcome_at = np.zeros(len(group.codes), dtype=np.int64)
    failed = group.codes != 0
    for number in np.unique(group.reasons[failed]).tolist():
        outcome_at[failed & (group.reasons == number)] = outcomes.index(outcome_of(reason_name(number)))
    names = list(dict.fromkeys(group.teams)) or [""]
    places = {name: place for place, name in enumerate(names)}
    team_at = np.array([places[team] for team in group.teams] or [0] * len(outcome_at), dtype=np.int64)
    pairs, at = np.unique((team_at * len(outcomes) + outcome_at)[callers], return_inverse=True)
    requests = np.bincount(at, minlength=len(pairs))
    answered = np.where(failed, 0, group.rows)[callers]
    predictions = np.bincount(at, weights=answered, minlength=len(pairs))
    compute = np.bincount(at, weights=group.compute_us[callers], minlength=len(pairs))
    milli_gpus = round(group.gpus * _MILLI)
    return [
        TeamTally(
            names[pair // len(outcomes)],
            outcomes[pair % len(outcomes)],
            int(requests[place]),
            int(predictions[place]),
            int(compute[place]),
            int(compute[place]) * milli_gpus,
        )
        for place, pair in enumerate(pairs.tolist())
    ]


def outcome_of(reason: str) -> TeamOutcome:
    """What a failure for that reason is to the team."""
    if reason in Reason.__members__ and CATALOGUE[Reason[reason]] is Code.RESOURCE_EXHAUSTED:
        return TeamOutcome.REFUSED
    return TeamOutcome.FAILED if is_fault(reason) else TeamOutcome.CALLERS_FAULT
