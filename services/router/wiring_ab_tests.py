"""How A/B tests are put together: they share with canaries what both stand on."""

from services.common.clock import Clock
from services.common.lifecycle import Lifecycle
from services.router.domain.rollouts import RolloutKind
from services.router.engines.ab_driver import AbTestDriver
from services.router.engines.ab_tests import AbTests
from services.router.engines.changing import TrafficOptions
from services.router.engines.drivers import Drivers
from services.router.engines.leadership import Leadership
from services.router.engines.publisher import Publisher
from services.router.engines.rollouts import Rollouts
from services.router.engines.rules import RuleBook
from services.router.ports import EvidenceSource, RuleStore


def add_ab_tests(
    lifecycle: Lifecycle,
    *,
    rollouts: Rollouts,
    leadership: Leadership,
    rules: RuleBook,
    rule_store: RuleStore,
    publisher: Publisher,
    source: EvidenceSource,
    options: TrafficOptions,
    clock: Clock,
) -> AbTests:
    """Adds A/B tests to a router; call it after the rollouts and the leadership were added."""
    tests = AbTests(
        rollouts=rollouts, rules=rules, rule_store=rule_store, publisher=publisher, options=options, clock=clock
    )
    driver = AbTestDriver(
        tests=tests, rollouts=rollouts, leadership=leadership, publisher=publisher, source=source, clock=clock
    )
    drivers = Drivers(
        rollouts=rollouts, leadership=leadership, kind=RolloutKind.AB_TEST, drive=driver.drive, clock=clock
    )
    lifecycle.add_task("A/B tests", drivers.run)
    return tests
