"""What the registry can be told."""

from pathlib import Path

from pydantic import Field, SecretStr

from services.common.settings import ServiceSettings, settings_config


class RegistrySettings(ServiceSettings):
    """Environment variables INFERMESH_REGISTRY_<FIELD>."""

    model_config = settings_config("registry")

    port: int = 8101
    metrics_port: int = 8201
    instance: str = "registry-0"
    database_url: SecretStr
    """postgresql+psycopg://… of the database; the tables are in its schema `registry`."""
    data_dir: Path = Path(".data/registry")
    """Folder of the artifact store, `artifacts/sha256/…` in it. Back it up together with the database."""
    artifact_bytes_max: int = Field(default=16 * 1024**3, gt=0)
    """The largest artifact that is taken, in bytes. 16 GiB by default: a larger one is more likely a wrong path."""
    copies_max: int = Field(default=4, ge=1, le=64)
    """Artifacts that are copied at the same time; more would only share the same disk."""
    uploads_max: int = Field(default=32, ge=1, le=1000)
    """Artifacts that callers send at the same time; one more is refused with QUOTA_EXCEEDED, to be tried again."""
    signing_key: SecretStr = SecretStr("")
    """The private key on P-256, in PEM, that API keys are signed with. Empty: `signing_key_path`."""
    signing_key_path: Path | None = None
    """A file with that key, for registries on several machines. Unset: one in `data_dir`, made at the first start."""
    access_period_s: float = Field(default=5.0, gt=0, le=3600)
    """Seconds between looks at all of who may do what. Changes are told as they are committed; this finds what time
    alone changes, such as keys that ended, and anything that got lost."""
    database_period_s: float = Field(default=1.0, gt=0, le=60)
    """Seconds between looks whether the database answers, which is what readiness says."""
