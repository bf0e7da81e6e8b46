"""How the monitor is put together."""

import asyncio
import zlib
from dataclasses import dataclass

import numpy as np
from infermesh.monitor.v1 import (
    evidence_service_pb2_grpc,
    logging_policy_service_pb2_grpc,
    monitor_service_pb2_grpc,
    prediction_log_pb2_grpc,
    rollout_event_service_pb2_grpc,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.access.book import AccessBook
from services.common.access.parts import new_access
from services.common.clock import Clock
from services.common.database import create_engine, migrate
from services.common.grpc.channel import open_channel
from services.common.grpc.identity import Identity
from services.common.grpc.server import GrpcServer, Service, add_grpc_server
from services.common.grpc.tls import peer_tls
from services.common.lifecycle import Lifecycle
from services.common.telemetry.metrics import new_registry
from services.monitor.adapters.database import SCHEMA
from services.monitor.adapters.deployer import Deployer
from services.monitor.adapters.host import ProcHostProbe, ProcModelProbe
from services.monitor.adapters.nvml import NvmlGpus
from services.monitor.adapters.postgres_alerts import PostgresAlertStore
from services.monitor.adapters.postgres_evidence import PostgresEvidenceStore
from services.monitor.adapters.postgres_joins import MayJoin
from services.monitor.adapters.postgres_log import PostgresLogStore
from services.monitor.adapters.postgres_metrics import PostgresMetricReader
from services.monitor.adapters.postgres_outcomes import PostgresOutcomeStore
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.adapters.postgres_rollup import PostgresRollupStore
from services.monitor.adapters.postgres_shadows import PostgresExampleStore
from services.monitor.adapters.postgres_usage import PostgresUsageStore
from services.monitor.adapters.prometheus import PrometheusBoard
from services.monitor.convert.log import reason_name
from services.monitor.domain.outcomes import Reporter
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.engines.alerts import Alerts
from services.monitor.engines.deployment_watch import DeploymentWatch
from services.monitor.engines.evidence import EvidenceEngine
from services.monitor.engines.keeper import HostWatch, Housekeeper, PartitionKeeper, RollupKeeper
from services.monitor.engines.live import Live
from services.monitor.engines.metrics import Metrics
from services.monitor.engines.outcomes import Outcomes
from services.monitor.engines.recorder import Recorder
from services.monitor.engines.shadows import Shadows
from services.monitor.engines.stream import RecorderLimits
from services.monitor.ports import AlertStore, Board, UsageStore
from services.monitor.servicers.alerts import RolloutEventServicer
from services.monitor.servicers.evidence import EvidenceServicer
from services.monitor.servicers.logging_policies import LoggingPolicyServicer
from services.monitor.servicers.monitor import MonitorServicer
from services.monitor.servicers.prediction_log import PredictionLogServicer
from services.monitor.settings import MonitorSettings
from services.monitor.wiring_alerts import build_alerting
from services.monitor.wiring_drift import build_drift
from services.monitor.wiring_log import build_log, build_policies
from services.monitor.wiring_usage import build_metering

_PACKAGE = "infermesh.monitor.v1"
_DRAIN_TIMEOUT_S = 4.0


@dataclass(frozen=True)
class Monitor:
    """A monitor, ready to run."""

    lifecycle: Lifecycle
    server: GrpcServer


def build(settings: MonitorSettings, *, clock: Clock) -> Monitor:
    """A monitor that is not started yet. Raises SystemExit where its settings do not fit together."""
    url = settings.database_url.get_secret_value()
    lifecycle = Lifecycle(name="monitor", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    channel = open_channel(settings.registry_address, tls=peer_tls(settings))
    lifecycle.add("channel to the registry", stop=channel.close)
    router = open_channel(settings.router_address, tls=peer_tls(settings))
    lifecycle.add("channel to the router", stop=router.close)
    access = new_access(
        lifecycle,
        registry=channel,
        watcher_id=settings.instance,
        path=settings.data_dir / "access.pb" if settings.data_dir is not None else None,
        clock=clock,
    )
    registry = new_registry()
    engine = create_engine(url, schema=SCHEMA, metrics=registry)
    board = PrometheusBoard(registry, host=settings.host_name)
    usage = PostgresUsageStore(engine)
    policies = build_policies(engine, settings, clock=clock)
    recorder = Recorder(
        store=PostgresLogStore(engine, may_join=_may_join(access.book)),
        live=Live(),
        board=board,
        clock=clock,
        reason_name=reason_name,
        limits=RecorderLimits(
            flush_period_s=settings.flush_period_s,
            cells_max=settings.cells_max,
            rows_max=settings.log_rows_max,
            sample_rate=settings.log_sample_rate,
            seconds_max=settings.seconds_max,
            predictions_max=settings.predictions_max,
            rate_of=policies.rate,
        ),
        chance=np.random.default_rng(zlib.crc32(settings.instance.encode())),
    )
    reader = PostgresMetricReader(engine)
    evidence = EvidenceEngine(store=PostgresEvidenceStore(engine), clock=clock, flush_period_s=settings.flush_period_s)
    outcomes = Outcomes(store=PostgresOutcomeStore(engine), clock=clock, retention_days=settings.metrics_retention_days)
    alert_store = PostgresAlertStore(engine)
    alerts = Alerts(store=alert_store, board=board, clock=clock, retention_days=settings.metrics_retention_days)
    shadows = Shadows(
        reader=reader,
        examples=PostgresExampleStore(engine),
        clock=clock,
        retention_days=settings.log_retention_days,
    )
    keeper = PartitionKeeper(store=PostgresPartitionStore(engine), tables=_tables(settings), clock=clock)
    metering = build_metering(engine, channel, board=board, clock=clock)
    logs = build_log(engine, policies, settings, stored=lambda: recorder.reachable, clock=clock)
    alerting = build_alerting(
        engine, lifecycle, settings, registry=channel, router=router, usage=usage, board=board, clock=clock
    )
    drift = build_drift(settings, engine, registry, reader=reader, clock=clock)

    _add_database(lifecycle, engine, url)
    lifecycle.add("partitions", start=keeper.keep)
    logs.add_to(lifecycle)
    lifecycle.add_task("partition keeper", keeper.run)
    lifecycle.add_task("host watch", _host_watch(lifecycle, settings, usage, board, clock).run)
    lifecycle.add_task("rollup keeper", RollupKeeper(store=PostgresRollupStore(engine), clock=clock).run)
    lifecycle.add_task("recorder", recorder.run)
    lifecycle.add_task("evidence reader", evidence.run)
    lifecycle.add_task("alert watch", alerts.run)
    lifecycle.add_task("deployment watch", _deployment_watch(lifecycle, settings, alerts, alert_store, clock).run)
    alerting.add_to(lifecycle)
    lifecycle.add_task("storage meter", metering.storage.run)
    lifecycle.add_task("prices", metering.prices.run)
    drift.add_to(lifecycle)
    jobs = {
        "evidence": evidence.keep,
        "outcomes": outcomes.keep,
        "alerts": alerts.keep,
        "letters": alerting.keep,
        "shadows": shadows.keep,
        "exports": logs.exports.keep,
        "drift": drift.reports.keep,
    }
    lifecycle.add_task("housekeeper", Housekeeper(jobs=jobs, clock=clock).run)
    lifecycle.on_health("database takes the log", lambda: recorder.reachable)
    server = add_grpc_server(
        lifecycle,
        settings,
        services=[
            _monitor_service(
                MonitorServicer(
                    metrics=Metrics(reader=reader, usage=usage, clock=clock),
                    outcomes=outcomes,
                    alerts=alerts,
                    alert_views=alerting.views,
                    rules=alerting.rules,
                    channels=alerting.channels,
                    silences=alerting.silences,
                    channel_tests=alerting.tests,
                    shadows=shadows,
                    usage=metering.reports,
                    search=logs.search,
                    exports=logs.exports,
                    policies=policies,
                    baselines=drift.baselines,
                    drift=drift.reports,
                    book=access.book,
                )
            ),
            _log_service(PredictionLogServicer(recorder, sample_rows_per_s=settings.drift_rows_per_s)),
            _policy_service(LoggingPolicyServicer(policies)),
            _evidence_service(EvidenceServicer(evidence)),
            _event_service(RolloutEventServicer(alerts)),
        ],
        clock=clock,
        registry=registry,
        guard=access.guard,
    )
    # Last, so that it stops first: streams end acknowledged before the server stops waiting for them.
    lifecycle.add("log drain", stop=recorder.drain, stop_timeout_s=_DRAIN_TIMEOUT_S)
    lifecycle.add("logging policies' streams", stop=policies.close)
    return Monitor(lifecycle, server)


def _host_watch(
    lifecycle: Lifecycle, settings: MonitorSettings, usage: UsageStore, board: Board, clock: Clock
) -> HostWatch:
    gpus = NvmlGpus(settings.nvml_library)
    lifecycle.add("GPUs", stop=lambda: asyncio.to_thread(gpus.close))
    return HostWatch(
        probe=ProcHostProbe(),
        models=ProcModelProbe(),
        gpus=gpus,
        board=board,
        store=usage,
        host=settings.host_name,
        period_s=settings.host_sample_period_s,
        retention_days=settings.metrics_retention_days,
        clock=clock,
    )


def _deployment_watch(
    lifecycle: Lifecycle, settings: MonitorSettings, alerts: Alerts, store: AlertStore, clock: Clock
) -> DeploymentWatch:
    channel = open_channel(settings.deployer_address, tls=peer_tls(settings))
    lifecycle.add("channel to the deployer", stop=channel.close)
    return DeploymentWatch(source=Deployer(channel), alerts=alerts, store=store, clock=clock)


def _may_join(book: AccessBook) -> MayJoin:
    """Whether whoever reported an outcome sees the model that its request turns out to have been of."""

    def may_join(reporter: Reporter, model: str) -> bool:
        role = "viewer" if reporter.team else ""
        caller = Identity(team=reporter.team, role=role, models=reporter.models or frozenset())
        return book.shows(caller, model)

    return may_join


def _tables(settings: MonitorSettings) -> tuple[PartitionedTable, ...]:
    return (
        PartitionedTable("model_metrics", settings.metrics_retention_days),
        PartitionedTable("latency_sketches", settings.metrics_retention_days),
        PartitionedTable("inference_logs", settings.log_retention_days),
        PartitionedTable("prediction_labels", settings.log_retention_days),
        PartitionedTable("drift_slices", settings.drift_retention_days),
    )


def _add_database(lifecycle: Lifecycle, engine: AsyncEngine, url: str) -> None:
    async def start() -> None:
        try:
            await migrate(url, service="monitor")
        except OperationalError as error:
            raise SystemExit(
                f"the monitor's database does not answer: {str(error.orig).splitlines()[0]}; "
                "start PostgreSQL or set INFERMESH_MONITOR_DATABASE_URL to one that runs"
            ) from None

    lifecycle.add("database", start=start, stop=engine.dispose)


def _monitor_service(servicer: MonitorServicer) -> Service:
    return (
        lambda server: monitor_service_pb2_grpc.add_MonitorServiceServicer_to_server(servicer, server),
        f"{_PACKAGE}.MonitorService",
    )


def _log_service(servicer: PredictionLogServicer) -> Service:
    return (
        lambda server: prediction_log_pb2_grpc.add_PredictionLogServiceServicer_to_server(servicer, server),
        f"{_PACKAGE}.PredictionLogService",
    )


def _policy_service(servicer: LoggingPolicyServicer) -> Service:
    return (
        lambda server: logging_policy_service_pb2_grpc.add_LoggingPolicyServiceServicer_to_server(servicer, server),
        f"{_PACKAGE}.LoggingPolicyService",
    )


def _evidence_service(servicer: EvidenceServicer) -> Service:
    return (
        lambda server: evidence_service_pb2_grpc.add_EvidenceServiceServicer_to_server(servicer, server),
        f"{_PACKAGE}.EvidenceService",
    )


def _event_service(servicer: RolloutEventServicer) -> Service:
    return (
        lambda server: rollout_event_service_pb2_grpc.add_RolloutEventServiceServicer_to_server(servicer, server),
        f"{_PACKAGE}.RolloutEventService",
    )
