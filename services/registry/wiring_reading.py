"""How imports are put together."""

from services.registry.adapters.import_sources import ImportSources
from services.registry.adapters.object_store import open_bucket
from services.registry.engines.aliasing import Aliasing
from services.registry.engines.changing import Changing
from services.registry.engines.importing import Importing
from services.registry.engines.registering import Registering
from services.registry.ports import ArtifactStore, Catalogue
from services.registry.settings import RegistrySettings


def build_importing(
    settings: RegistrySettings,
    *,
    store: ArtifactStore,
    catalogue: Catalogue,
    registering: Registering,
    aliasing: Aliasing,
    changing: Changing,
) -> Importing:
    """Imports into the catalogue, from what the settings allow."""
    sources = ImportSources(
        store,
        hosts=settings.import_host_names,
        allowed=settings.source_prefixes,
        open_bucket=open_bucket,
        bytes_max=settings.artifact_bytes_max,
    )
    return Importing(
        sources=sources, catalogue=catalogue, registering=registering, aliasing=aliasing, changing=changing
    )
