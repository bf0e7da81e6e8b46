"""What the registry can be told."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

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
    """Folder of the artifact store where `artifacts_uri` names no other place. Back it up together with the database.
    Artifacts on their way are written here first."""
    artifacts_uri: str = ""
    """Where artifacts are kept: file:///folder, s3://bucket/prefix or gs://bucket/prefix, with the credentials of the
    standard environment (AWS_…, GOOGLE_APPLICATION_CREDENTIALS). Empty: `artifacts` in `data_dir`."""
    artifact_compression: Literal["zstd", "off"] = "zstd"
    """"zstd" compresses artifacts for which it pays; "off" none. Where an artifact lies as it was sent, on this
    machine's disks, model servers load it without another copy."""
    artifact_key_file: str = ""
    """Files with keys of 32 bytes, separated by commas: artifacts are encrypted with the first, and read with all.
    Empty: they are not encrypted."""
    artifact_encryption: Literal["off", "server"] = "off"
    """"server" asks S3 to encrypt what it stores."""
    upload_bytes_max: int = Field(default=64 * 1024**3, gt=0)
    """Bytes of uploads that a team may have begun and not completed."""
    team_uploads_max: int = Field(default=100, ge=1)
    """Uploads that a team may have begun and not completed."""
    artifact_kms_key_id: str = ""
    """The key of AWS KMS that S3 encrypts with. Empty: S3's own."""
    artifact_sources: str = ""
    """Folders, buckets and prefixes that artifacts may be registered from, separated by commas, for instance
    "/srv/models/,s3://models/". Empty: wherever the registry can read, but for what is its own. Set it where not all
    teams may read all of that."""
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
    access_period_s: float = Field(default=30.0, gt=0, le=3600)
    """Seconds between looks at all of who may do what. Changes are told as they are committed; this finds what time
    alone changes, such as keys that ended, and anything that got lost."""
    import_hosts: str = ""
    """Hosts of MLflow servers that models may be imported from, separated by commas, each with its port or for all of
    its ports: "mlflow.internal:5000". Empty: none. Callers name the server: others stay out of reach."""
    allow_unsafe_artifacts: bool = False
    """Whether models without a team may be of artifacts that run code while they are loaded (pickles, Python). Teams
    say it for themselves."""
    deployer_address: str = "127.0.0.1:8103"
    """Asked whether a version is deployed before it is removed."""
    followers_max: int = Field(default=1000, ge=1, le=100_000)
    """Callers that follow the changes at the same time; one more is refused with QUOTA_EXCEEDED."""
    database_period_s: float = Field(default=1.0, gt=0, le=60)
    """Seconds between looks whether the database answers, which is what readiness says."""

    @property
    def key_files(self) -> Sequence[Path]:
        """The files of `artifact_key_file`."""
        return [Path(one.strip()) for one in self.artifact_key_file.split(",") if one.strip()]

    @property
    def import_host_names(self) -> Sequence[str]:
        """The hosts of `import_hosts`."""
        return [one.strip() for one in self.import_hosts.split(",") if one.strip()]

    @property
    def source_prefixes(self) -> Sequence[str]:
        """The places of `artifact_sources`."""
        return [one.strip() for one in self.artifact_sources.split(",") if one.strip()]
