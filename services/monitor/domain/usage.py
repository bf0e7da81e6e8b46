"""What teams use: whole numbers that add up, by hour, team, model and version.

Charged are callers' requests and the rows of batch jobs that were answered, and those that failed by the caller's own
doing. What failed for the platform's sake is free, and so is what nobody asked for: retries of the gateway, copies,
warm-ups. The team that calls pays, not the one that owns the model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.monitor.domain.aggregate import SECOND_US, clipped_times_us
from services.monitor.domain.faults import is_fault
from services.monitor.domain.measures import ReasonName
from services.monitor.domain.records import CALLER_KINDS, Group

Ints = npt.NDArray[np.int64]

HOUR_US = 3600 * SECOND_US
_MILLI = 1000


@dataclass(frozen=True, order=True, slots=True)
class UsageKey:
    """Whose usage of what. `hour` is in hours since the Unix epoch; `team` empty: nobody's."""

    hour: int
    team: str
    model: str
    version: str


@dataclass(slots=True)
class Used:
    """What was used. All whole numbers, so sums are the same in any order and in any parts."""

    requests: int = 0
    predictions: int = 0
    """Rows that were answered."""
    serving_us: int = 0
    """Time in the batcher and at the model server, waiting included."""
    compute_us: int = 0
    """Time of model servers, each request's share of its batch."""
    gpu_milli_us: int = 0
    """The same times the thousandths of GPUs that a replica has."""

    def add(self, other: "Used") -> None:
        """Adds what `other` used."""
        self.requests += other.requests
        self.predictions += other.predictions
        self.serving_us += other.serving_us
        self.compute_us += other.compute_us
        self.gpu_milli_us += other.gpu_milli_us


class Usage(dict[UsageKey, Used]):
    """Usage by key, made when it is first needed."""

    def __missing__(self, key: UsageKey) -> Used:
        used = self[key] = Used()
        return used

    def add_group(self, group: Group, *, now_us: int, reason_name: ReasonName) -> None:
        """Adds what a group's requests used."""
        for key, used in usage_of(group, now_us=now_us, reason_name=reason_name):
            self[key].add(used)

    def merge(self, other: "Mapping[UsageKey, Used]") -> None:
        """Adds all of `other`."""
        for key, used in other.items():
            self[key].add(used)


def usage_of(group: Group, *, now_us: int, reason_name: ReasonName) -> Iterator[tuple[UsageKey, Used]]:
    """What a group's requests used, by hour and team; each of its requests in the hour in which it was answered."""
    charged = _charged(group, reason_name)
    if not charged.any():
        return
    names, teams = _teams(group)
    hours = clipped_times_us(group, now_us) // HOUR_US
    # One number for each pair of hour and team, so that a chunk of many teams is gone through once.
    pairs, places = np.unique((hours * len(names) + teams)[charged], return_inverse=True)

    def summed(column: Ints) -> list[int]:
        sums = np.zeros(len(pairs), dtype=np.int64)
        np.add.at(sums, places, column[charged])
        return [int(value) for value in sums]

    milli_gpus = round(group.gpus * _MILLI)
    for pair, requests, predictions, serving_us, compute_us in zip(
        pairs.tolist(),
        summed(np.ones_like(group.rows)),
        summed(np.where(group.codes == 0, group.rows, 0)),
        summed(group.latencies_us),
        summed(group.compute_us),
        strict=True,
    ):
        hour, team = divmod(pair, len(names))
        key = UsageKey(hour, names[team], group.model, group.version)
        yield key, Used(requests, predictions, serving_us, compute_us, compute_us * milli_gpus)


def _charged(group: Group, reason_name: ReasonName) -> npt.NDArray[np.bool_]:
    callers: npt.NDArray[np.bool_] = np.isin(group.kinds, CALLER_KINDS)
    failed: npt.NDArray[np.bool_] = group.codes != 0
    if not failed.any():
        return callers
    own_doing = [number for number in np.unique(group.reasons[failed]).tolist() if not is_fault(reason_name(number))]
    charged: npt.NDArray[np.bool_] = callers & (~failed | np.isin(group.reasons, own_doing))
    return charged


def _teams(group: Group) -> tuple[list[str], Ints]:
    """The teams, and for each request the place of its own among them."""
    if not group.teams:
        return [""], np.zeros(len(group.times_us), dtype=np.int64)
    places: dict[str, int] = {}
    column = [places.setdefault(team, len(places)) for team in group.teams]
    return list(places), np.array(column, dtype=np.int64)
