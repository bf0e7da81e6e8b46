"""What is shown of the limiter's judgements: by kind, the refused by team, of a bounded number of teams."""

from prometheus_client import CollectorRegistry

from services.limiter.adapters.prometheus import LimiterCollector
from services.limiter.domain.buckets import Decision, Limit
from services.limiter.engines.limits import KEY, OTHER, TEAM, TEAMS_MAX, Limiter, Limits


class Store:
    """Lets through what is told."""

    def __init__(self) -> None:
        self.allows = True

    async def take(self, caller: str, limit: Limit, hits: int) -> Decision:
        """As told."""
        return Decision(self.allows, 0.0)


async def test_judgements_are_shown() -> None:
    store, registry = Store(), CollectorRegistry()
    limiter = Limiter(store)
    LimiterCollector(registry, limiter)
    limit = Limit(1, 1)
    limiter.limits = Limits(teams={"red": limit, "blue": limit}, keys={"k": limit})
    await limiter.judge(TEAM, "red", 1)
    await limiter.judge(TEAM, "nobody's", 1)
    store.allows = False
    await limiter.judge(TEAM, "blue", 1)
    await limiter.judge(KEY, "k", 1)
    assert registry.get_sample_value("limiter_calls_total", {"limit": "team", "outcome": "allowed"}) == 1
    assert registry.get_sample_value("limiter_calls_total", {"limit": "team", "outcome": "refused"}) == 1
    assert registry.get_sample_value("limiter_calls_total", {"limit": "key", "outcome": "refused"}) == 1
    assert registry.get_sample_value("limiter_refused_total", {"team": "red"}) == 0
    assert registry.get_sample_value("limiter_refused_total", {"team": "blue"}) == 1
    assert registry.get_sample_value("limiter_refused_total", {"team": "nobody's"}) is None
    assert registry.get_sample_value("limiter_unjudged_total") == 0


async def test_teams_that_are_told_apart_are_bounded() -> None:
    limiter = Limiter(Store())
    names = [f"team-{number}" for number in range(TEAMS_MAX + 3)]
    limiter.limits = Limits(teams=dict.fromkeys(names, Limit(1, 1)))
    for name in names:
        await limiter.judge(TEAM, name, 1)
    assert len(limiter.judged.refused) == TEAMS_MAX + 1
    assert OTHER in limiter.judged.refused
