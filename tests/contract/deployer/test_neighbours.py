"""What the registry and the router are asked and what comes back: over real gRPC, and from their fakes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from infermesh.registry.v1 import model_version_pb2, registry_service_pb2, registry_service_pb2_grpc
from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc, traffic_pb2

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.identity import current_identity
from services.common.grpc.server import Service, add_grpc_server
from services.common.lifecycle import Lifecycle
from services.common.schema_proto import mapping_to_proto, schema_to_proto
from services.common.settings import ServiceSettings, settings_config
from services.deployer.adapters.registry import RegistryVersionSource
from services.deployer.adapters.router import RouterTraffic
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Wish
from services.deployer.ports import VersionSource
from tests.support.clock import NOON
from tests.support.deployer_fakes import FakeVersions, recipe

RECIPE = replace(recipe(team="vision", stage="active"), artifact_kind="file")
NEW = NewDeployment(
    "digits", "v1.1.0", "new", Wish(), traffic_split={"v1.0.0": 90, "v1.1.0": 10}, request_id="r", created_by="ann"
)
DEPLOYMENT = Deployment("018f", NEW, RECIPE, Wish(), Progress(), 1, NOON, NOON)


class Settings(ServiceSettings):
    model_config = settings_config("test")
    port: int = 0
    metrics_port: int = 0
    shutdown_grace_s: float = 2.0


class Registry(registry_service_pb2_grpc.RegistryServiceServicer):
    """Knows one version."""

    async def GetModelVersion(
        self, request: registry_service_pb2.GetModelVersionRequest, _context: Any
    ) -> model_version_pb2.ModelVersion:
        if (request.model_name, request.version) != ("digits", "v1.0.0"):
            raise MeshError(
                Reason.VERSION_NOT_FOUND, f"model {request.model_name!r} has no {request.version}; list them"
            )
        return model_version_pb2.ModelVersion(
            framework=RECIPE.framework,
            artifact_path=RECIPE.artifact_path,
            artifact_digest=RECIPE.artifact_digest,
            artifact_kind=RECIPE.artifact_kind,
            schema=schema_to_proto(RECIPE.schema),
            mapping=mapping_to_proto(RECIPE.mapping),
            team=RECIPE.team,
            stage=RECIPE.stage,
        )


class Router(router_service_pb2_grpc.RouterServiceServicer):
    """Keeps what it was asked, and by whom."""

    def __init__(self) -> None:
        self.asked: list[tuple[router_service_pb2.UpdateTrafficRequest, str]] = []
        self.refusal: MeshError | None = None
        self.now = traffic_pb2.Traffic(model_name="digits", etag="g7")

    async def UpdateTraffic(
        self, request: router_service_pb2.UpdateTrafficRequest, _context: Any
    ) -> traffic_pb2.Traffic:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((request, current_identity().user))
        return traffic_pb2.Traffic(model_name=request.model_name, traffic_split=request.traffic_split)

    async def GetTraffic(self, request: router_service_pb2.GetTrafficRequest, _context: Any) -> traffic_pb2.Traffic:
        assert request.model_name == "digits"
        if self.refusal is not None:
            raise self.refusal
        return self.now


@pytest.fixture
def router() -> Router:
    return Router()  # type: ignore[abstract]


@pytest.fixture
async def address(router: Router) -> AsyncIterator[str]:
    """Where both neighbours answer."""
    clock = SystemClock()
    lifecycle = Lifecycle(name="test", clock=clock)
    registry = Registry()  # type: ignore[abstract]
    services: list[Service] = [
        (
            lambda server: registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(registry, server),
            "infermesh.registry.v1.RegistryService",
        ),
        (
            lambda server: router_service_pb2_grpc.add_RouterServiceServicer_to_server(router, server),
            "infermesh.router.v1.RouterService",
        ),
    ]
    server = add_grpc_server(lifecycle, Settings(), services=services, clock=clock)
    await lifecycle.start()
    yield f"127.0.0.1:{server.port}"
    await lifecycle.stop()


@pytest.fixture(params=["fake", "grpc"])
async def versions(request: pytest.FixtureRequest, address: str) -> AsyncIterator[VersionSource]:
    if request.param == "fake":
        yield FakeVersions({("digits", "v1.0.0"): RECIPE})
        return
    async with open_channel(address) as channel:
        yield RegistryVersionSource(channel)


async def test_a_recipe_comes_over_whole(versions: VersionSource) -> None:
    assert await versions.recipe("digits", "v1.0.0") == RECIPE


async def test_a_version_that_is_not_registered_is_refused_in_the_registrys_words(versions: VersionSource) -> None:
    with pytest.raises(MeshError, match=r"'digits' has no .*v9\.9\.9") as refused:
        await versions.recipe("digits", "v9.9.9")
    assert refused.value.reason is Reason.VERSION_NOT_FOUND


async def test_a_split_is_asked_for_under_the_deployments_own_id_by_who_made_it(address: str, router: Router) -> None:
    async with open_channel(address) as channel:
        traffic = RouterTraffic(channel)
        await traffic.split(DEPLOYMENT)
        await traffic.split(DEPLOYMENT)
    (first, user), (again, _) = router.asked
    assert first == again
    assert (first.model_name, first.deployment_name, user) == ("digits", "new", "ann")
    assert dict(first.traffic_split) == {"v1.0.0": 90, "v1.1.0": 10}
    assert first.request_id == "deployment-018f"


@pytest.mark.parametrize(
    ("ready", "propagated", "known"),
    [
        (["v1.0.0", "v1.1.0"], "True", True),
        (["v1.0.0"], "True", False),
        (["v1.1.0"], "False", False),
    ],
)
async def test_a_version_is_known_once_it_is_ready_and_everybody_has_acknowledged_that(
    address: str, router: Router, ready: list[str], propagated: str, known: bool
) -> None:
    router.now.ready_versions.extend(ready)
    router.now.status_conditions.add(type="Honoured", status="False")
    router.now.status_conditions.add(type="Propagated", status=propagated)
    async with open_channel(address) as channel:
        assert await RouterTraffic(channel).knows(DEPLOYMENT) is known


async def test_of_a_model_that_the_router_has_not_heard_of_nothing_is_known(address: str, router: Router) -> None:
    async with open_channel(address) as channel:
        router.refusal = MeshError(Reason.MODEL_NOT_SERVED, "nothing of it is served")
        assert not await RouterTraffic(channel).knows(DEPLOYMENT)
        router.refusal = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the store is away")
        with pytest.raises(MeshError, match="the store is away"):
            await RouterTraffic(channel).knows(DEPLOYMENT)


async def test_each_wish_for_other_shares_has_an_id_of_its_own(address: str, router: Router) -> None:
    async with open_channel(address) as channel:
        for generation in (4, 4, 9):
            await RouterTraffic(channel).split(replace(DEPLOYMENT, split_generation=generation))
    ids = [asked.request_id for asked, _ in router.asked]
    assert ids == ["deployment-018f-split-4", "deployment-018f-split-4", "deployment-018f-split-9"]


async def test_what_the_router_says_against_a_split_keeps_its_reason(address: str, router: Router) -> None:
    router.refusal = MeshError(Reason.VERSION_NOT_DEPLOYED, "v1.1.0 of model 'digits' is not ready; deploy it first")
    async with open_channel(address) as channel:
        with pytest.raises(MeshError, match="deploy it first") as refused:
            await RouterTraffic(channel).split(DEPLOYMENT)
    assert refused.value.reason is Reason.VERSION_NOT_DEPLOYED


async def test_shares_and_conditions_of_older_versions_are_asked_for_the_new_one(address: str, router: Router) -> None:
    router.now.traffic_split.update({"v0.9.0": 60, "v1.0.0": 30, "v1.1.0": 10})
    for version, user in (("v0.8.0", "bob"), ("v1.0.0", "ann")):
        router.now.conditions.add(attribute="user_id", values=[user], version=version)
    rolled = replace(DEPLOYMENT, previous_version="v1.0.0", generation=3)
    async with open_channel(address) as channel:
        words = await RouterTraffic(channel).take_over(rolled, {"v1.0.0", "v0.9.0"})
    ((asked, user),) = router.asked
    assert dict(asked.traffic_split) == {"v1.1.0": 100}
    assert [(one.version, list(one.values)) for one in asked.conditions] == [("v0.8.0", ["bob"]), ("v1.1.0", ["ann"])]
    assert (asked.etag, asked.deployment_name, user) == ("g7", "new", "ann")
    assert asked.request_id == "deployment-018f-3"
    assert words == "100 % of the traffic is its own now"


async def test_where_the_older_ones_have_no_traffic_nothing_is_asked(address: str, router: Router) -> None:
    router.now.traffic_split.update({"v0.5.0": 100})
    async with open_channel(address) as channel:
        words = await RouterTraffic(channel).take_over(replace(DEPLOYMENT, previous_version="v1.0.0"), {"v1.0.0"})
    assert router.asked == []
    assert words == "no traffic was led to the version before it"
