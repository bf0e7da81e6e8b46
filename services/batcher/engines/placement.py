"""The places of one version: which there are, how each does beside its peers, and why none can be used."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from services.batcher.domain.ejection import (
    COUNTED,
    Change,
    after_answer,
    after_failure,
    cut_off,
    doubted,
    state_of,
    why_none,
    why_not,
)
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.places import Place
from services.batcher.domain.recovery import NEVER_RAN
from services.batcher.domain.refusals import unavailable
from services.batcher.domain.serving import ServedVersion
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.servers import Servers, server_of
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_DOWN = (FailureKind.UNREACHABLE, FailureKind.LOST)
_RESTS = NEVER_RAN | {FailureKind.LOST, FailureKind.GARBLED}
_WHY_LENGTH_MAX = 200
_ELSEWHERE_S = 0.001


@dataclass(frozen=True, slots=True)
class PlaceView:
    """How one place is doing, for metrics and people."""

    backend_id: str
    state: str
    """See `state_of`."""
    why_not: str
    """Why it is given nothing now, or less than it could take; empty where neither is so."""
    batches: int
    """Batches on their way there."""
    slots: int
    """How many there may be when all is well."""
    expected_s: float
    """How long it would take to finish one more row, by what is known."""
    latency_s: float
    """A batch's usual time; 0 where none was answered yet."""
    ejections: int
    """How often it was set aside since it is known."""


class Placement:
    """Keeps the places of a version."""

    def __init__(self, *, servers: Servers, options: EngineOptions) -> None:
        self._servers = servers
        self._options = options
        self.ejections = 0
        """How often one was set aside. Only grows."""
        self._model, self._version = "", ""
        self._in_flight = options.in_flight_per_backend
        self.places: list[Place] = []

    def adopt(self, served: ServedVersion, in_use: Iterable[Place], now_s: float, *, loaded: bool = False) -> bool:
        """Follows a change of backends. `in_use`: places of batches on their way. Returns whether there is a new one,
        which begins slowly. `loaded`: the version was cold, so whatever was known of a place is over, and each is used
        in full from the beginning: the deployer has just run the version there."""
        self._model, self._version = served.model_name, served.version
        options = self._options
        # A place that left and comes back still has its batches: it must not look empty.
        known = {_address(place): place for place in (*in_use, *self.places)}
        places = []
        for backend in served.backends:
            # Known or not: this keeps the server from being let go.
            server = self._servers.of(backend)
            place = known.get((backend.server, backend.server_model))
            if place is None:
                place = Place(
                    backend,
                    server,
                    in_flight_per_backend=self._in_flight,
                    since_s=-inf if loaded else now_s,
                    slow_start_s=options.slow_start_s,
                )
            else:
                place.resize(backend, in_flight_per_backend=self._in_flight)
                if loaded:
                    place.renew()
            places.append(place)
        self.places = places
        return any(_address(place) not in known for place in places)

    def resize(self, in_flight_per_backend: int) -> None:
        """From now on a backend of capacity 1 is given as many batches at a time."""
        self._in_flight = in_flight_per_backend
        for place in self.places:
            place.resize(place.backend, in_flight_per_backend=in_flight_per_backend)

    @property
    def capacity(self) -> float:
        """Of all places."""
        return sum([place.capacity for place in self.places])

    def answered(self, place: Place, *, rows: int, sent_s: float, now_s: float) -> None:
        """A batch was answered in full."""
        place.observe(rows=rows, seconds=now_s - sent_s, now_s=now_s)
        if len(self.places) > 1:
            rules = self._options.ejection
            self._tell(place, after_answer(place, self.places, sent_s=sent_s, now_s=now_s, rules=rules))

    def overdue(self, place: Place, *, rows: int, sent_s: float, now_s: float) -> None:
        """A batch took longer than anybody could wait."""
        place.observe(rows=rows, seconds=now_s - sent_s, now_s=now_s)
        if len(self.places) > 1:
            rules = self._options.ejection
            change = after_answer(place, self.places, sent_s=sent_s, now_s=now_s, rules=rules, in_time=False)
            self._tell(place, change)

    def failed(self, place: Place, failure: BackendFailure, *, sent_s: float, now_s: float) -> bool:
        """A batch failed. Returns whether it should be tried elsewhere before its members are blamed."""
        kind, options = failure.kind, self._options
        if kind in _DOWN:
            self._servers.lost(server_of(place))
        alone = True
        if kind in _RESTS:
            alone = place.rest(
                now_s,
                delay_min_s=options.probe_delay_min_s,
                delay_max_s=options.probe_delay_max_s,
                why=failure.message[:_WHY_LENGTH_MAX],
            )
        if kind not in COUNTED or not alone or len(self.places) < 2:
            return False
        change = after_failure(place, self.places, sent_s=sent_s, now_s=now_s, rules=options.ejection)
        self._tell(place, change)
        return kind not in _RESTS and doubted(place, self.places, now_s)

    def confirm_elsewhere(self, place: Place, now_s: float) -> None:
        """Its refusal is to be confirmed at another place: nothing goes there until that is on its way, and for longer
        where it has refused before."""
        again = place.conduct.ejected or place.conduct.failed_in_a_row > 1
        place.shun(now_s + (self._options.probe_delay_min_s if again else _ELSEWHERE_S))

    def unavailable(self, since: str, now_s: float) -> MeshError:
        """What callers are told while no place can be used."""
        why = why_none(self.places, now_s)
        return unavailable(self._model, self._version, f"{since} ({why})", backends=why)

    def cut_off(self, now_s: float) -> str:
        """Why no place is there; empty where one is."""
        return cut_off(self.places, now_s)

    def views(self, now_s: float) -> list[PlaceView]:
        """How every place is doing."""
        return [
            PlaceView(
                backend_id=place.backend.backend_id,
                state=state_of(place, now_s),
                why_not=why_not(place, now_s),
                batches=place.in_flight,
                slots=place.slots,
                expected_s=place.expected_s(1, now_s),
                latency_s=place.latency_s,
                ejections=place.conduct.total,
            )
            for place in self.places
        ]

    def _tell(self, place: Place, change: Change | None) -> None:
        if change is None:
            return
        told = {"model": self._model, "version": self._version, "backend": place.backend.backend_id}
        if change is Change.EJECTED:
            self.ejections += 1
            log.warning("a backend is ejected", **told, why=place.conduct.reason, times=place.conduct.times)
        else:
            log.info("a backend returns", **told, after=place.conduct.reason)


def _address(place: Place) -> tuple[str, tuple[str, str, str]]:
    return (place.backend.server, place.backend.server_model)
