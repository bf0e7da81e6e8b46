"""How imports are put together."""

from services.registry.adapters.import_sources import ImportSources
from services.registry.engines.aliasing import Aliasing
from services.registry.engines.changing import Changing
from services.registry.engines.importing import Importing
from services.registry.engines.registering import Registering
from services.registry.ports import Catalogue
from services.registry.settings import RegistrySettings
from services.registry.wiring_artifacts import Artifacts


def build_importing(
    settings: RegistrySettings,
    *,
    artifacts: Artifacts,
    catalogue: Catalogue,
    registering: Registering,
    aliasing: Aliasing,
    changing: Changing,
) -> Importing:
    """Imports into the catalogue, from what the settings allow."""
    sources = ImportSources(
        artifacts.store,
        hosts=settings.import_host_names,
        places=artifacts.sources,
        bytes_max=settings.artifact_bytes_max,
    )
    return Importing(
        sources=sources, catalogue=catalogue, registering=registering, aliasing=aliasing, changing=changing
    )
