"""What teams use and what that costs, for Prometheus: by team, of as many as a platform has, and never by model."""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from services.monitor.domain.team_tallies import CHARGED, TeamOutcome, TeamTally
from services.monitor.domain.usage_cost import PriceTable

TEAMS_MAX = 500
"""Teams that are told apart, first come, first served; those of others are counted under OTHER."""
OTHER = "__other__"
_US_PER_S = 1e6
_GPU_UNITS_PER_S = 1e9


class _Team:
    """What one team used since the process began."""

    __slots__ = ("compute_us", "gpu_milli_us", "outcomes", "predictions")

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(TeamOutcome, 0)
        self.predictions = 0
        self.compute_us = 0
        self.gpu_milli_us = 0


class PrometheusTeamBoard(Collector):
    """Counts from the start of the process. What is lost with it is lost to Prometheus alone: bills are in the
    database. Scrapes come on another thread: they read copies."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._teams: dict[str, _Team] = {}
        self._prices: PriceTable | None = None
        registry.register(self)

    def teams(self, tallies: Sequence[TeamTally]) -> None:
        """Adds requests. Compute counts where it is charged."""
        for tally in tallies:
            team = self._of(tally.team)
            team.outcomes[tally.outcome] += tally.requests
            team.predictions += tally.predictions
            if tally.outcome in CHARGED:
                team.compute_us += tally.compute_us
                team.gpu_milli_us += tally.gpu_milli_us

    def prices(self, table: PriceTable) -> None:
        """These are the prices now."""
        self._prices = table

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """The counts of this moment."""
        requests = CounterMetricFamily(
            "team_requests", "Requests and rows of jobs by the team that made them", labels=("team", "outcome")
        )
        predictions = CounterMetricFamily("team_predictions", "Rows that were answered to a team", labels=("team",))
        compute = CounterMetricFamily(
            "team_compute_seconds", "Time of model servers that a team is charged for", labels=("team",)
        )
        gpu = CounterMetricFamily(
            "team_gpu_seconds", "The same times the GPUs of the replicas that computed", labels=("team",)
        )
        for name, team in list(self._teams.items()):
            for outcome, count in team.outcomes.items():
                requests.add_metric((name, outcome.value), count)
            predictions.add_metric((name,), team.predictions)
            compute.add_metric((name,), team.compute_us / _US_PER_S)
            gpu.add_metric((name,), team.gpu_milli_us / _GPU_UNITS_PER_S)
        yield from (requests, predictions, compute, gpu)
        yield self._collect_prices()

    def _collect_prices(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            "usage_price", "What is charged now, in the currency of the price table", labels=("of", "currency")
        )
        if self._prices is not None:
            prices = self._prices.prices
            for of, price in (
                ("1000_requests", prices.per_1000_requests),
                ("compute_hour", prices.per_compute_hour),
                ("gpu_hour", prices.per_gpu_hour),
                ("gb_month", prices.per_gb_month),
            ):
                family.add_metric((of, self._prices.currency), float(price))
        return family

    def _of(self, name: str) -> _Team:
        if name not in self._teams and len(self._teams) >= TEAMS_MAX:
            name = OTHER
        team = self._teams.get(name)
        if team is None:
            team = self._teams[name] = _Team()
        return team
