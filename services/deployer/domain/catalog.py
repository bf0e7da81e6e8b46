"""What is published: every version that was proven, where it runs, and the steps from one state of it to the next."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.common.feature_view import FeatureView
from services.common.names import SemanticVersion
from services.common.schema import ModelSchema, PredictionMapping
from services.deployer.domain.deployment import Batching, Deployment
from services.deployer.domain.plan import Observation, answering


@dataclass(frozen=True, slots=True)
class Place:
    """A model server and its addresses, host:port."""

    server_id: str
    http_address: str
    grpc_address: str


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


def published(deployments: Iterable[Deployment], observed: Observation, pool: Mapping[str, Place]) -> Models:
    """The state to publish.

    A version is published where it was proven and is ready now. Where that is nowhere, for instance because the only
    server is just coming back, it stays published where it was proven: callers then get "try again", not "unknown".
    One that sleeps is published as cold, until it has been loaded again.
    """
    by_model: dict[str, list[tuple[Deployment, PublishedVersion]]] = {}
    for deployment in deployments:
        version = _version(deployment, observed, pool)
        if version is not None:
            by_model.setdefault(deployment.new.model_name, []).append((deployment, version))
    models: dict[str, PublishedModel] = {}
    for name, found in sorted(by_model.items()):
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


def _version(deployment: Deployment, observed: Observation, pool: Mapping[str, Place]) -> PublishedVersion | None:
    progress, wish = deployment.progress, deployment.wish
    if not progress.loaded or progress.withdrawn_at is not None:
        return None
    names = answering(deployment, observed) or tuple(progress.loaded)
    cold = progress.asleep_since is not None
    places = () if cold else tuple(pool[name] for name in sorted(names) if name in pool)
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
        server_model_name=deployment.server_model_name,
        places=places,
        deterministic=wish.serving.deterministic,
        feature_views=deployment.recipe.feature_views,
        reference_digest=deployment.recipe.reference_digest,
        cold=cold,
    )
