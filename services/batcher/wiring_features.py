"""How the features of feature stores are put together."""

from collections.abc import Callable, Iterable

from prometheus_client import Metric

from services.batcher.adapters.feast_features import FeastFeatures
from services.batcher.adapters.redis_features import RedisFeatures
from services.batcher.engines.feature_ports import FeatureStore
from services.batcher.engines.features import FeatureOptions, Features
from services.batcher.settings import BatcherSettings
from services.batcher.telemetry.feature_families import feature_metrics
from services.batcher.telemetry.labels import LabelSets
from services.common.clock import Clock
from services.common.feature_view import FeatureStoreKind
from services.common.lifecycle import Lifecycle


def build_features(
    settings: BatcherSettings, *, clock: Clock, lifecycle: Lifecycle, labels: LabelSets
) -> tuple[Features, Callable[[], Iterable[Metric]]]:
    """The joiner over the stores that are configured, and its metrics."""
    stores: dict[FeatureStoreKind, FeatureStore] = {}
    url = (settings.feature_redis_url or settings.redis_url).get_secret_value()
    if url:
        redis = RedisFeatures(url, clock=clock)
        lifecycle.add_task("features from Redis", redis.serve)
        stores[FeatureStoreKind.REDIS] = redis
    if settings.feast_url:
        feast = FeastFeatures(settings.feast_url, clock=clock)
        lifecycle.add("features from Feast", stop=feast.close)
        stores[FeatureStoreKind.FEAST] = feast
    features = Features(
        stores=stores,
        clock=clock,
        options=FeatureOptions(
            deadline_s=settings.feature_deadline_ms / 1000,
            ttl_s=settings.feature_cache_s,
            bytes_max=settings.feature_cache_bytes,
        ),
    )
    return features, feature_metrics(features, labels)
