"""How what drives rollouts is put together: one router of several acts, on the monitor's evidence."""

import secrets
from dataclasses import dataclass

import grpc
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.common.lifecycle import Lifecycle
from services.router.adapters.event_store import PostgresEventStore
from services.router.adapters.leases import PostgresLeases
from services.router.adapters.monitor import MonitorEventSink, MonitorEvidenceSource
from services.router.adapters.prometheus_rollouts import RolloutCollector
from services.router.adapters.rollout_store import PostgresRolloutStore
from services.router.domain.rollouts import RolloutKind
from services.router.engines.ab_tests import AbTests
from services.router.engines.canaries import Canaries
from services.router.engines.canary_driver import CanaryDriver
from services.router.engines.canary_saving import CanarySaving
from services.router.engines.canary_starts import CanaryStarts
from services.router.engines.changing import Changing, TrafficOptions
from services.router.engines.drivers import Drivers
from services.router.engines.events import EventReporter
from services.router.engines.leadership import Leadership, LeadershipOptions
from services.router.engines.publisher import Publisher
from services.router.engines.rollouts import Rollouts
from services.router.engines.rules import RuleBook
from services.router.engines.traffic import Traffic
from services.router.ports import RuleStore
from services.router.settings import RouterSettings
from services.router.wiring_ab_tests import add_ab_tests


@dataclass(frozen=True)
class TrafficParts:
    """What rollouts stand on."""

    engine: AsyncEngine
    rule_store: RuleStore
    rules: RuleBook
    publisher: Publisher
    traffic: Traffic
    options: TrafficOptions


@dataclass(frozen=True)
class RolloutParts:
    """What answers callers."""

    canaries: Canaries
    ab_tests: AbTests


def add_rollouts(
    lifecycle: Lifecycle,
    settings: RouterSettings,
    *,
    base: TrafficParts,
    monitor: grpc.aio.Channel,
    metrics: CollectorRegistry,
    clock: Clock,
) -> RolloutParts:
    """Adds rollouts to a router; call it after the rules and the last table were added."""
    board = RolloutCollector(metrics, rules=lambda: base.rules.rules, running=lambda: rollouts.running)
    leadership = Leadership(
        leases=PostgresLeases(base.engine),
        holder=f"{settings.instance}-{secrets.token_hex(4)}",
        clock=clock,
        options=LeadershipOptions(ttl_s=settings.lease_s, renew_s=settings.lease_s / 3),
    )
    reporter = EventReporter(
        store=PostgresEventStore(base.engine), sink=MonitorEventSink(monitor), leadership=leadership, clock=clock
    )
    rollouts = Rollouts(
        store=PostgresRolloutStore(base.engine),
        rules=base.rules,
        leadership=leadership,
        reporter=reporter,
        board=board,
        period_s=settings.rollouts_period_s,
    )
    source = MonitorEvidenceSource(monitor)
    saving = CanarySaving(
        rollouts=rollouts,
        rules=base.rules,
        publisher=base.publisher,
        options=base.options,
        clock=clock,
    )
    starts = CanaryStarts(
        saving=saving,
        rollouts=rollouts,
        rules=base.rules,
        changing=Changing(store=base.rule_store, rules=base.rules, publisher=base.publisher, options=base.options),
        publisher=base.publisher,
        traffic=base.traffic,
        clock=clock,
    )
    canaries = Canaries(starts=starts, rollouts=rollouts, rules=base.rules, saving=saving, clock=clock)
    driver = CanaryDriver(
        saving=saving,
        rollouts=rollouts,
        leadership=leadership,
        publisher=base.publisher,
        source=source,
        clock=clock,
    )
    canary_drivers = Drivers(
        rollouts=rollouts, leadership=leadership, kind=RolloutKind.CANARY, drive=driver.drive, clock=clock
    )

    lifecycle.add("rollouts", start=rollouts.load)
    # Stopped in reverse: whoever acts first, then the lease is given back, so that another router goes on at once.
    lifecycle.add("lease of rollouts", stop=leadership.release)
    lifecycle.add_task("leadership", leadership.run)
    lifecycle.add_task("running rollouts", rollouts.run)
    lifecycle.add_task("events of rollouts", reporter.run)
    lifecycle.add_task("canaries", canary_drivers.run)
    ab_tests = add_ab_tests(
        lifecycle,
        rollouts=rollouts,
        leadership=leadership,
        rules=base.rules,
        rule_store=base.rule_store,
        publisher=base.publisher,
        source=source,
        options=base.options,
        clock=clock,
    )
    return RolloutParts(canaries, ab_tests)
