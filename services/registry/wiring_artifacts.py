"""How the artifact store is put together."""

from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncEngine

from services.registry.adapters.artifact_keys import load_keys
from services.registry.adapters.artifact_rows import PostgresArtifactBook
from services.registry.adapters.artifact_sources import Sources
from services.registry.adapters.artifact_store import ObjectArtifactStore
from services.registry.adapters.incoming import Encoding
from services.registry.adapters.object_store import open_bucket, open_objects
from services.registry.settings import RegistrySettings

if TYPE_CHECKING:  # in its stubs alone
    from obstore.store import S3Config


def build_store(settings: RegistrySettings, engine: AsyncEngine) -> ObjectArtifactStore:
    """The store that the settings name, recorded in the database of `engine`. Raises SystemExit with one sentence."""
    own = settings.data_dir.absolute() / "artifacts"
    objects = open_objects(settings.artifacts_uri, default=own, encryption=_server_side(settings))
    keys = load_keys(settings.key_files)
    return ObjectArtifactStore(
        objects=objects,
        book=PostgresArtifactBook(engine),
        sources=Sources(
            open_bucket=open_bucket,
            own_folder=objects.folder,
            own_uri=objects.uri(""),
            allowed=settings.source_prefixes,
        ),
        # Beside where it goes, because a file gets its place by a new name.
        incoming=(objects.folder or own) / "incoming",
        encoding=Encoding(
            compress=settings.artifact_compression == "zstd", plain=objects.folder is not None, keys=keys
        ),
        bytes_max=settings.artifact_bytes_max,
        copies_max=settings.copies_max,
    )


def _server_side(settings: RegistrySettings) -> "S3Config | None":
    if settings.artifact_encryption == "off":
        return None
    if not settings.artifacts_uri.startswith("s3://"):
        raise SystemExit(
            "INFERMESH_REGISTRY_ARTIFACT_ENCRYPTION is 'server', which only S3 can be asked for, and "
            f"INFERMESH_REGISTRY_ARTIFACTS_URI is {settings.artifacts_uri!r}; set "
            "INFERMESH_REGISTRY_ARTIFACT_KEY_FILE to encrypt elsewhere (GCS always encrypts by itself)"
        )
    if settings.artifact_kms_key_id:
        return {"server_side_encryption": "aws:kms", "sse_kms_key_id": settings.artifact_kms_key_id}
    return {"server_side_encryption": "AES256"}
