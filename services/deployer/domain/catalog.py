"""What is published: every version that was proven, where it runs, and the steps from one state of it to the next."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from services.common.feature_view import FeatureView
from services.common.names import SemanticVersion
from services.common.outside_credentials import credential_of
from services.common.schema import ModelSchema, PredictionMapping
from services.deployer.domain.berth import Berth
from services.deployer.domain.cluster.plan import UNKNOWN, Sight
from services.deployer.domain.deployment import Batching, Deployment
from services.deployer.domain.external import ExternalBackend
from services.deployer.domain.plan import Observation, answering


@dataclass(frozen=True, slots=True)
class Place:
    """A model server and its addresses, host:port."""

    server_id: str
    http_address: str
    grpc_address: str


@dataclass(frozen=True, slots=True)
class Site:
    """A deployment with the model servers that concern it: how each stands, and where it is."""

    deployment: Deployment
    observed: Observation
    places: Mapping[str, Place]
    berth: Berth | None = None
    """On which of them it shall be; None: on all."""
    sight: Sight = UNKNOWN
    """Of one in a cluster: what is known of that."""


@dataclass(frozen=True, slots=True)
class PublishedVersion:
    """A version that may receive requests."""

    version: str
    deployment_name: str
    artifact_digest: str
    schema: ModelSchema
    mapping: PredictionMapping
    batching: Batching
    target_latency_ms: float
    server_model_name: str
    places: tuple[Place, ...]
    deterministic: bool
    feature_views: tuple[FeatureView, ...] = ()
    reference_digest: str = ""
    cold: bool = False
    """It sleeps: it has no place, and whoever has a request for it asks for it to be loaded."""
    external: ExternalBackend | None = None
    """How its places are spoken to, where they are not the deployer's own."""
    credential: str = ""
    """What these are shown, by the name that services have for it; empty: nothing."""


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """All that is published of a model, in ascending order of version."""

    model_name: str
    versions: tuple[PublishedVersion, ...]
    team: str = ""


Models = Mapping[str, PublishedModel]


@dataclass(frozen=True, slots=True)
class Change:
    """What leads from one state to another."""

    models: tuple[PublishedModel, ...]
    removed: tuple[str, ...]


def published(sites: Iterable[Site], made: dict[str, tuple[Site, PublishedVersion | None]] | None = None) -> Models:
    """The state to publish.

    A version is published where it was proven and is ready now. Where that is nowhere, for instance because the only
    server is just coming back, it stays published where it was proven: callers then get "try again", not "unknown".
    One that sleeps is published as cold, until it has been loaded again. As long as an older version is all that a
    deployment has, it bears its name; once the newer one is there too, the name is that one's. `made` keeps what was
    made of each site, by the deployment's id, so that what has not changed is not made again.
    """
    by_model: dict[str, list[tuple[Deployment, PublishedVersion]]] = {}
    sites = tuple(sites)
    listed = {site.deployment.deployment_id for site in sites if _listed(site.deployment)}
    for site in sites:
        version = _version_once(site, made) if made is not None else _version(site)
        if version is not None:
            if site.deployment.successor in listed:
                version = replace(version, deployment_name=f"{version.deployment_name}@{version.version}")
            by_model.setdefault(site.deployment.new.model_name, []).append((site.deployment, version))
    models: dict[str, PublishedModel] = {}
    for name, found in sorted(by_model.items()):
        if len(found) > 1:
            found.sort(key=lambda pair: SemanticVersion.parse(pair[1].version))
        team = next((one.new.team for one, _ in found if one.new.team), "")
        models[name] = PublishedModel(name, tuple(version for _, version in found), team)
    return models


def difference(before: Models, after: Models) -> Change:
    """What to tell someone who knows `before`."""
    return Change(
        models=tuple(model for name, model in after.items() if before.get(name) != model),
        removed=tuple(name for name in before if name not in after),
    )


def _listed(deployment: Deployment) -> bool:
    return bool(deployment.progress.loaded) and deployment.progress.withdrawn_at is None


def _version_once(site: Site, made: dict[str, tuple[Site, PublishedVersion | None]]) -> PublishedVersion | None:
    key = site.deployment.deployment_id
    known = made.get(key)
    if known is None or known[0] is not site:
        known = made[key] = (site, _version(site))
    return known[1]


def _version(site: Site) -> PublishedVersion | None:
    deployment = site.deployment
    progress, wish = deployment.progress, deployment.wish
    if not _listed(deployment):
        return None
    names = answering(deployment, site.observed) or tuple(progress.loaded)
    cold = progress.asleep_since is not None
    places = () if cold else tuple(site.places[name] for name in sorted(names) if name in site.places)
    if not places and not cold:
        return None
    return PublishedVersion(
        version=deployment.new.version,
        deployment_name=deployment.new.deployment_name,
        artifact_digest=deployment.recipe.artifact_digest,
        schema=deployment.recipe.schema,
        mapping=deployment.recipe.mapping,
        batching=wish.batching,
        target_latency_ms=wish.target_latency_ms,
        server_model_name=server_model_of(deployment),
        places=places,
        deterministic=wish.serving.deterministic,
        feature_views=deployment.recipe.feature_views,
        reference_digest=deployment.recipe.reference_digest,
        cold=cold,
        external=wish.external,
        credential=credential_of(deployment.new.team, wish.external.credentials) if wish.external is not None else "",
    )


def server_model_of(deployment: Deployment) -> str:
    """The name under which its servers know the version."""
    external = deployment.wish.external
    if external is None:
        return deployment.server_model_name
    return external.server_model_name or deployment.new.model_name
