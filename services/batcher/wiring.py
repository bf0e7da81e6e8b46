"""How the batcher is put together. `build` runs on the loop that carries the requests."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

import grpc
from prometheus_client import Metric

from services.batcher.adapters.activation import DeployerActivator
from services.batcher.adapters.backend_clients import open_client
from services.batcher.adapters.demand import DemandReports
from services.batcher.adapters.envoy_admin import EnvoyAdmin
from services.batcher.adapters.key_use import KeyUses
from services.batcher.adapters.logging_policies import PolicyWatcher
from services.batcher.adapters.prediction_log import PredictionLog
from services.batcher.adapters.redis_cache import RedisCache
from services.batcher.adapters.references import References
from services.batcher.adapters.sample_files import SampleFiles
from services.batcher.adapters.serving_table import TableWatcher
from services.batcher.adapters.snapshot import Snapshot
from services.batcher.adapters.thread_load import wanted_cpu_s
from services.batcher.adapters.trace_export import TraceExporter
from services.batcher.bridge.messages import Handler, StreamHandler
from services.batcher.domain.cached import CacheOptions
from services.batcher.domain.fairness import weights
from services.batcher.domain.serving import ServingTable
from services.batcher.engines.cache import PredictionCache
from services.batcher.engines.cache_ports import Answers
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.batcher.faces.application import Prefixed
from services.batcher.faces.catalog import Catalog
from services.batcher.faces.copier import ShadowCopier
from services.batcher.faces.core import Core
from services.batcher.faces.drain import Drain
from services.batcher.faces.explainer import Explainer, ExplainerOptions
from services.batcher.faces.health import HealthMethods
from services.batcher.faces.oip_grpc import InferenceMethods
from services.batcher.faces.oip_rest import RestFace
from services.batcher.faces.oip_stream import InferenceStreams
from services.batcher.faces.plain import PlainFace
from services.batcher.faces.ports import InferEngine
from services.batcher.faces.prediction import PredictionMethods
from services.batcher.faces.spare import SpareTime
from services.batcher.settings import BatcherSettings
from services.batcher.telemetry.activations import ActivationStats
from services.batcher.telemetry.backend_families import backend_metrics
from services.batcher.telemetry.batches import BatchStats
from services.batcher.telemetry.cache_families import cache_metrics, store_metrics
from services.batcher.telemetry.collector import BatcherCollector
from services.batcher.telemetry.engine_families import EngineFamilies
from services.batcher.telemetry.explanations import ExplanationStats
from services.batcher.telemetry.labels import LabelSets
from services.batcher.telemetry.night_view import NightView, engine_part, lanes_part
from services.batcher.telemetry.policy_families import policy_metrics
from services.batcher.telemetry.recent_latency import RecentLatency
from services.batcher.telemetry.shadow_families import shadow_metrics
from services.batcher.telemetry.traces import Traces
from services.batcher.wiring_features import build_features
from services.common.access.key_use import report_to_registry
from services.common.clock import Clock
from services.common.garbage import settle
from services.common.grpc.channel import open_channel
from services.common.grpc.tls import peer_tls
from services.common.lifecycle import Lifecycle
from services.common.outside_credentials import Credentials
from services.common.outside_tls import OutsideTls
from services.common.telemetry.metrics import new_registry

VARIABLE_ADMIN = "INFERMESH_ADMIN_SOCKET"
"""Where Envoy's admin interface listens; set by `app_envoy`, empty where it has none."""


@dataclass(frozen=True)
class Batcher:
    """A batcher, ready to start."""

    lifecycle: Lifecycle
    handlers: Mapping[str, Handler]
    streams: Mapping[str, StreamHandler]
    operators: Mapping[str, Handler]
    prefixed: Prefixed
    drain: Drain

    def started(self) -> None:
        """Everything runs: what was made so far is no garbage."""
        settle()


def build(settings: BatcherSettings, *, clock: Clock) -> Batcher:
    """A batcher with the batching engine over Triton, not started yet."""
    lifecycle = Lifecycle(name="batcher", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    labels = LabelSets()
    batches = BatchStats(labels)
    observer = batches if settings.telemetry else None
    deployer = open_channel(settings.deployer_address, tls=peer_tls(settings))
    cold_starts = ActivationStats(labels)
    engine = Engine(
        clock=clock,
        open_client=partial(
            open_client,
            tls=OutsideTls.told(settings.external_ca),
            credentials=Credentials(settings.external_credentials),
        ),
        options=EngineOptions(weight_of=weights(settings.team_weights)),
        observer=observer,
        activator=DeployerActivator(deployer),
        cold_starts=cold_starts,
    )
    demand = DemandReports(
        deployer,
        batcher_id=settings.instance,
        take=engine.take_demand,
        clock=clock,
        period_s=settings.demand_period_s,
    )
    lifecycle.add("channel to the deployer", stop=deployer.close)
    lifecycle.add("engine", start=engine.start, stop=engine.stop)

    return assemble(
        settings,
        clock=clock,
        lifecycle=lifecycle,
        catalog=Catalog(on_apply=engine.serve),
        engine=engine,
        labels=labels,
        demand=demand,
        families=(
            batches.collect,
            cold_starts.collect,
            EngineFamilies(engine, labels, clock).collect,
            policy_metrics(engine.learned, labels),
            backend_metrics(engine.placements, clock.monotonic, labels),
        ),
        shown={"engine": lambda: engine_part(engine), "lanes": lambda: lanes_part(engine, clock.monotonic())},
    )


def assemble(
    settings: BatcherSettings,
    *,
    clock: Clock,
    lifecycle: Lifecycle,
    catalog: Catalog,
    engine: Answers,
    labels: LabelSets | None = None,
    demand: DemandReports | None = None,
    families: Sequence[Callable[[], Iterable[Metric]]] = (),
    shown: Mapping[str, Callable[[], object]] | None = None,
) -> Batcher:
    """A batcher over this engine. `demand` tells what the engine is asked for, `families` are its own metrics, `shown`
    its parts of the operators' page."""
    exporter = _exporter(settings, clock) if settings.telemetry and settings.otlp_endpoint else None
    tls = peer_tls(settings)
    router, monitor = open_channel(settings.router_address, tls=tls), open_channel(settings.monitor_address, tls=tls)
    request_log = PredictionLog(
        monitor,
        batcher_id=settings.instance,
        clock=clock,
        rows_max=settings.log_rows_max,
        flush_s=settings.log_flush_ms / 1000,
    )
    labels = labels or LabelSets()
    registry_channel = open_channel(settings.registry_address, tls=tls)
    references, explainer, explanations = _explainer(
        settings, registry_channel, clock=clock, lifecycle=lifecycle, engine=engine, labels=labels
    )

    def apply(table: ServingTable) -> None:
        catalog.apply(table)
        references.serve(table)

    watcher = TableWatcher(
        router,
        batcher_id=settings.instance,
        address=settings.advertised,
        snapshot=Snapshot(settings.data_dir),
        prepare=catalog.prepare,
        apply=apply,
        revoke=lambda keys: core.revoke(keys),
        clock=clock,
    )
    cache, cache_families = _cache(settings, clock=clock, lifecycle=lifecycle, engine=engine, labels=labels)
    features, feature_families = build_features(settings, clock=clock, lifecycle=lifecycle, labels=labels)
    copier = ShadowCopier(
        engine=engine,
        catalog=catalog,
        request_log=request_log,
        clock=clock,
        spare=SpareTime(clock=clock, wanted_s=wanted_cpu_s),
        copies_max=settings.shadow_copies_max,
        bytes_max=settings.shadow_bytes_max,
        timeout_s=settings.shadow_timeout_s,
    )
    request_log.compared = copier.take_sums
    core = Core(
        catalog=catalog,
        engine=engine,
        cache=cache,
        features=features,
        request_log=request_log,
        copier=copier,
        clock=clock,
        traces=exporter.traces if exporter is not None else None,
        timed=settings.telemetry,
        deadline_default_s=settings.deadline_default_s,
        deadline_max_s=settings.deadline_max_s,
    )
    drain = Drain(
        core=core,
        clock=clock,
        grace_s=settings.shutdown_grace_s,
        leave=EnvoyAdmin(os.environ.get(VARIABLE_ADMIN, "")).drain,
        drop=copier.close,
    )
    if exporter is not None:
        lifecycle.add("last traces", stop=exporter.stop)
        lifecycle.add_task("traces", exporter.run)
        families = (*families, exporter.collect)
    lifecycle.add("channel to the router", stop=router.close)
    lifecycle.add("channel to the monitor", stop=monitor.close)
    lifecycle.add("kept serving table", start=watcher.restore)
    _follow_policies(settings, monitor, catalog, clock=clock, lifecycle=lifecycle)
    lifecycle.add_task("serving table", watcher.run)
    lifecycle.add_task("serving table on disk", watcher.keep)
    lifecycle.add_task("prediction log's chunks", request_log.cut_chunks)
    lifecycle.add_task("prediction log", request_log.send)
    lifecycle.add("prediction log's last words", stop=request_log.stop)
    lifecycle.add_task("shadow copies", copier.run)
    _report(demand, core, lifecycle)
    key_uses = KeyUses(report_to_registry(registry_channel), take=core.callers.take_uses, clock=clock)
    lifecycle.add("last use of keys", stop=key_uses.stop)
    lifecycle.add_task("use of keys", key_uses.run)
    lifecycle.add_task("drain", drain.run)
    lifecycle.on_health("the serving table", lambda: catalog.ready)
    lifecycle.on_health("draining", lambda: not drain.draining)
    began_s = clock.monotonic()
    view = NightView(
        {
            "instance": lambda: settings.instance,
            "up_s": lambda: round(clock.monotonic() - began_s, 1),
            "waiting_for": lifecycle.unready,
            "serving": lambda: {"revision": catalog.table.revision, "models": len(catalog.table.models)},
            "requests": lambda: {"active": len(core.in_flight), "begun": core.begun, "streams": len(core.streams)},
            **(shown or {}),
            "cache": lambda: cache.shown() if cache is not None else None,
            "shadows": copier.shown,
            "callers": lambda: {"known": len(core.callers), "keys_to_tell": key_uses.held},
            "prediction_log": lambda: {"held": request_log.held, "dropped": request_log.dropped},
            "traces": lambda: exporter.shown() if exporter is not None else None,
            "last_failures": lambda: list(core.failures.lines(clock.monotonic())),
        }
    )
    registry = new_registry()
    registry.register(
        BatcherCollector(
            stats=catalog.stats,
            active=lambda: len(core.in_flight),
            labels=labels,
            clock=clock,
            timed=settings.telemetry,
            settle=core.timings.settle,
            others=(
                request_log.collect,
                explanations.collect,
                shadow_metrics(copier.counts, labels),
                *cache_families,
                feature_families,
                *families,
            ),
        )
    )
    operators = PlainFace(unready=lifecycle.unready, registry=registry, page=view.page).handlers()
    handlers, streams, prefixed = _faces(lifecycle, core, explainer)
    return Batcher(lifecycle, {**operators, **handlers}, streams, operators, prefixed, drain)


def _follow_policies(
    settings: BatcherSettings, monitor: grpc.aio.Channel, catalog: Catalog, *, clock: Clock, lifecycle: Lifecycle
) -> None:
    """Logs what the monitor's policies say."""
    policies = PolicyWatcher(
        monitor,
        batcher_id=settings.instance,
        snapshot=Snapshot(settings.data_dir, of="logging policies"),
        apply=catalog.record,
        clock=clock,
    )
    lifecycle.add("kept logging policies", start=policies.restore)
    lifecycle.add_task("logging policies", policies.run)
    lifecycle.add_task("logging policies on disk", policies.keep)


def _report(demand: DemandReports | None, core: Core, lifecycle: Lifecycle) -> None:
    """Tells what is in demand, where there is who counts it."""
    if demand is not None:
        demand.latencies = RecentLatency(stats=core.catalog.stats_of, settle=core.timings.settle).p95_ms
        lifecycle.add_task("demand", demand.run)


def _explainer(
    settings: BatcherSettings,
    registry: grpc.aio.Channel,
    *,
    clock: Clock,
    lifecycle: Lifecycle,
    engine: InferEngine,
    labels: LabelSets,
) -> tuple[References, Explainer, ExplanationStats]:
    """Who has the reference samples, what explains predictions by them, and its counts."""
    references = References(registry, files=SampleFiles(settings.data_dir / "references"), clock=clock)
    lifecycle.add("channel to the registry", stop=registry.close)
    lifecycle.add("kept reference samples", start=references.start)
    lifecycle.add_task("reference samples", references.run)
    stats = ExplanationStats(labels)
    options = ExplainerOptions(
        rows_max=settings.explain_rows_max,
        at_once_max=settings.explain_at_once_max,
        waiting_max=settings.explain_waiting_max,
    )
    explainer = Explainer(engine=engine, references=references, clock=clock, stats=stats, options=options)
    return references, explainer, stats


def _cache(
    settings: BatcherSettings, *, clock: Clock, lifecycle: Lifecycle, engine: Answers, labels: LabelSets
) -> tuple[PredictionCache | None, Sequence[Callable[[], Iterable[Metric]]]]:
    """The prediction cache, where it is wanted, and its metrics."""
    if not settings.cache_bytes:
        return None, ()
    options = CacheOptions(bytes_max=settings.cache_bytes, ttl_s=settings.cache_ttl_s)
    url, store = settings.redis_url.get_secret_value(), None
    families: list[Callable[[], Iterable[Metric]]] = []
    if url:
        store = RedisCache(url, clock=clock, read_timeout_s=settings.redis_read_timeout_ms / 1000)
        lifecycle.add_task("prediction cache's reads", store.serve_reads)
        lifecycle.add_task("prediction cache's writes", store.serve_writes)
        families.append(store_metrics(store))
    cache = PredictionCache(engine=engine, clock=clock, options=options, store=store)
    return cache, (cache_metrics(cache, labels), *families)


def _exporter(settings: BatcherSettings, clock: Clock) -> TraceExporter:
    return TraceExporter(
        Traces(ratio=settings.trace_ratio, rng=Random()),  # noqa: S311 - which requests are traced is no secret
        endpoint=settings.otlp_endpoint,
        instance=settings.instance,
        clock=clock,
        requests_per_s_max=settings.traces_per_s_max,
    )


def _faces(
    lifecycle: Lifecycle, core: Core, explainer: Explainer
) -> tuple[Mapping[str, Handler], Mapping[str, StreamHandler], Prefixed]:
    def ready() -> bool:
        return not lifecycle.unready()

    predictions = PredictionMethods(core, explainer=explainer)
    rest = RestFace(core, ready=ready)
    handlers = {
        **HealthMethods(core, ready=ready).handlers(),
        **predictions.handlers(),
        **InferenceMethods(core, ready=ready).handlers(),
        **rest.handlers(),
    }
    return handlers, {**predictions.streams(), **InferenceStreams(core).streams()}, rest
