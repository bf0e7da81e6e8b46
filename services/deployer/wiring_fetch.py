"""How what fills a replica's model repository is put together."""

from pathlib import Path
from typing import NoReturn

import uv

from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.grpc.channel import open_channel
from services.common.grpc.tls import PublicTls
from services.common.telemetry.metrics import new_registry
from services.deployer.adapters.artifact_cache import ArtifactCache
from services.deployer.adapters.environments import UvEnvironments
from services.deployer.adapters.installer import Installer
from services.deployer.adapters.prometheus import PrometheusBoard
from services.deployer.adapters.quantizer import OnnxQuantizer
from services.deployer.adapters.registry import RegistryArtifacts, RegistryVersionSource
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.domain.deployment import Resources, ServingOptions, Wish
from services.deployer.domain.package import Package
from services.deployer.engines.bringup import Bringer
from services.deployer.engines.fetch import Fetcher, Told, Wanted
from services.deployer.engines.fleet import Fleet
from services.deployer.settings import FetchSettings


async def fetch(settings: FetchSettings, *, clock: Clock) -> Package:
    """Makes the repository; what it holds then. Raises MeshError."""
    channel = open_channel(
        settings.address, tls=_towards_gateway(settings.tls_ca), bearer=settings.api_key.get_secret_value().strip()
    )
    try:
        versions = RegistryVersionSource(channel)
        cache = ArtifactCache(
            settings.folder / "artifacts",
            source=RegistryArtifacts(channel),
            # The replica's volume has the limit.
            bytes_max=2**63,
            pinned=frozenset,
        )
        quantizer = OnnxQuantizer(settings.serving_python.absolute(), settings.runner.parent / "quantize.py")
        packages = FolderPackageStore(
            settings.folder / "repository", runner=settings.runner, artifacts=cache, quantizer=quantizer
        )
        await packages.start()
        bringer = Bringer(
            store=Told(),
            versions=versions,
            fleet=Fleet({}, _no_external_servers),
            packages=packages,
            environments=UvEnvironments(
                (settings.folder / "environments").absolute(), _installer(settings), clock=clock, keep_s=0.0
            ),
            clock=clock,
            threads_default=settings.threads_default,
            loads_max=1,
            # Nobody scrapes who fetches and ends.
            board=PrometheusBoard(new_registry()),
            equipment=settings.equipment,
        )
        fetcher = Fetcher(versions=versions, bringer=bringer, clock=clock, patience_s=settings.patience_s)
        package = await fetcher.fetch(_wanted(settings))
        # A file is in the repository by a link; of what was unpacked the packed form is not needed any more.
        await cache.drop(package.artifact_digest)
        return package
    finally:
        await channel.close()


def _towards_gateway(tls_ca: str) -> PublicTls | None:
    """Raises INVALID_FIELD where the file is not there."""
    if tls_ca in ("", "system"):
        return PublicTls() if tls_ca else None
    path = Path(tls_ca)
    if not path.is_file():
        raise invalid(
            "INFERMESH_FETCH_TLS_CA", tls_ca, 'the path of a file of certificates in PEM, "system" or nothing'
        )
    return PublicTls(path)


def _wanted(settings: FetchSettings) -> Wanted:
    serving = ServingOptions(
        precision=settings.precision,
        accuracy_drop_max=settings.accuracy_drop_max,
        instances=settings.instances,
        threads=settings.threads,
    )
    resources = Resources(gpu=len(settings.equipment.gpus))
    return Wanted(settings.model, settings.version, settings.digest, Wish(resources=resources, serving=serving))


def _no_external_servers(*_: object, **__: object) -> NoReturn:
    raise MeshError(Reason.NOT_IMPLEMENTED, "a replica of a cluster loads an artifact; it has no external backend")


def _installer(settings: FetchSettings) -> Installer:
    return Installer(
        uv=Path(uv.find_uv_bin()),
        python=settings.serving_python.absolute(),
        locks=settings.framework_locks,
        index=settings.package_index,
        proxy=settings.package_proxy,
        links=tuple(link for link in settings.package_links.split() if link),
    )
