"""How the artifact store is put together."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.common.objects import open_bucket
from services.registry.adapters.artifact_keys import load_keys
from services.registry.adapters.artifact_rows import PostgresArtifactBook
from services.registry.adapters.artifact_sources import Sources
from services.registry.adapters.artifact_store import ObjectArtifactStore
from services.registry.adapters.incoming import Encoding
from services.registry.adapters.object_store import open_objects
from services.registry.adapters.upload_parts import ObjectUploadParts
from services.registry.adapters.upload_rows import PostgresUploadBook
from services.registry.domain.uploads import UploadLimits
from services.registry.engines.sending import SendingTurns
from services.registry.engines.uploads import Uploading
from services.registry.ports import Catalogue
from services.registry.settings import RegistrySettings

if TYPE_CHECKING:  # in its stubs alone
    from obstore.store import S3Config


@dataclass(frozen=True)
class Artifacts:
    """The store, and what is sent to it in several goes."""

    store: ObjectArtifactStore
    sources: Sources
    uploading: Uploading
    sending: SendingTurns


def build_artifacts(
    settings: RegistrySettings, engine: AsyncEngine, *, catalogue: Catalogue, clock: Clock
) -> Artifacts:
    """The store that the settings name, recorded in the database of `engine`. Raises SystemExit with one sentence."""
    own = settings.data_dir.absolute() / "artifacts"
    objects = open_objects(settings.artifacts_uri, default=own, encryption=server_side(settings))
    encoding = Encoding(
        compress=settings.artifact_compression == "zstd",
        plain=objects.folder is not None,
        keys=load_keys(settings.key_files),
    )
    sources = Sources(
        open_bucket=open_bucket,
        own_folder=objects.folder,
        own_uri=objects.uri(""),
        allowed=settings.source_prefixes,
        closed=own_files(settings),
    )
    store = ObjectArtifactStore(
        objects=objects,
        book=PostgresArtifactBook(engine),
        sources=sources,
        # Beside where it goes, because a file gets its place by a new name.
        incoming=(objects.folder or own) / "incoming",
        encoding=encoding,
        bytes_max=settings.artifact_bytes_max,
        copies_max=settings.copies_max,
    )
    sending = SendingTurns(settings.uploads_max)
    uploading = Uploading(
        book=PostgresUploadBook(engine),
        parts=ObjectUploadParts(objects, encoding=encoding, threads=store),
        store=store,
        catalogue=catalogue,
        clock=clock,
        limits=UploadLimits(uploads_max=settings.team_uploads_max, bytes_max=settings.upload_bytes_max),
        artifact_bytes_max=settings.artifact_bytes_max,
        sending=sending,
    )
    return Artifacts(store, sources, uploading, sending)


def own_files(settings: RegistrySettings) -> list[Path]:
    """What of this machine is the registry's alone, whoever asks for it."""
    kept = [settings.signing_key_path, Path(settings.tls_dir) if settings.tls_dir else None]
    return [settings.data_dir.absolute(), *settings.key_files, *(one for one in kept if one is not None)]


def server_side(settings: RegistrySettings) -> "S3Config | None":
    """How a bucket is asked to encrypt. Raises SystemExit where the store is none of S3."""
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
