"""Aliases from the real registry to what batchers are told, and to where a request would go."""

from pathlib import Path

import psycopg
from infermesh.common.v1 import serving_pb2
from infermesh.registry.v1 import registry_service_pb2
from infermesh.router.v1 import router_service_pb2 as pb
from pydantic import SecretStr

from services.registry.settings import RegistrySettings
from tests.integration.router.driving import PlayedBatcher, Router, Surroundings, served
from tests.support.registry_driving import NEW, OLD, Registry, digits
from tests.support.router_fakes import ready
from tests.support.waiting import eventually

SetAlias = registry_service_pb2.SetAliasRequest


async def test_an_alias_can_be_asked_for_follows_its_moves_and_survives_the_registry(
    around: Surroundings, tmp_path: Path
) -> None:
    settings = RegistrySettings(
        port=around.others_port,
        metrics_port=0,
        database_url=SecretStr(around.database_url),
        data_dir=tmp_path / "data",
        database_period_s=0.1,
    )
    registry = Registry(settings)
    await registry.start()
    for version in (OLD, NEW):
        await registry.calls.CreateModel(digits(version))
    await registry.calls.SetAlias(SetAlias(model_name="digits", alias="champion", version=OLD))
    around.deployer.state.put(ready("digits", OLD, NEW))
    async with around.router() as router:
        await served(router, [OLD, NEW])
        batcher = PlayedBatcher(router.channel)
        await eventually(lambda: told(batcher) == {"champion": OLD}, what="batchers know the alias")
        assert await resolved(router, "champion") == OLD
        await registry.calls.SetAlias(SetAlias(model_name="digits", alias="champion", version=NEW))
        await eventually(lambda: told(batcher) == {"champion": NEW}, what="batchers know that it was moved")
        assert await resolved(router, "champion") == NEW
        await eventually(lambda: saved(around) == {"champion": NEW}, what="the table is saved")
        await batcher.leave()
    await registry.stop()
    async with around.router() as router:
        await served(router, [OLD, NEW])
        assert await resolved(router, "champion") == NEW


def told(batcher: PlayedBatcher) -> dict[str, str]:
    """The model's aliases as the batcher was told them."""
    return dict(batcher.served["digits"].aliases) if "digits" in batcher.served else {}


def saved(around: Surroundings) -> dict[str, str]:
    """The model's aliases in the table that was saved last."""
    with psycopg.connect(around.database_url.replace("+psycopg", "")) as connection:
        row = connection.execute("SELECT served FROM router.serving_models").fetchone()
    return dict(serving_pb2.ServedModel.FromString(row[0]).aliases) if row is not None else {}


async def resolved(router: Router, version: str) -> str:
    """Which version a request gets that asks for `version` in a header."""
    request = pb.ResolveRouteRequest(model_name="digits", headers={"x-model-version": version})
    return (await router.api.ResolveRoute(request)).version
