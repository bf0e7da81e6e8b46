"""What the limiter can be told."""

from pydantic import SecretStr

from services.common.settings import ServiceSettings, settings_config


class LimiterSettings(ServiceSettings):
    """Environment variables INFERMESH_LIMITER_<FIELD>."""

    model_config = settings_config("limiter")

    port: int = 8106
    metrics_port: int = 8206
    instance: str = "limiter-0"
    registry_address: str = "127.0.0.1:8101"
    """host:port of the registry, which says the limits."""
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:8132/0")
    """The Redis that all limiters share. It may be away: callers are then let through, and held by each gateway's own
    buckets alone."""
