"""Lineage as a graph and as a search, over gRPC and the real PostgreSQL."""

from collections.abc import Sequence

import psycopg
import pytest
from infermesh.registry.v1 import registry_service_pb2

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import HEADER_ROLE, HEADER_TEAM
from services.registry.settings import RegistrySettings
from tests.support.registry_driving import NEW, OLD, Registry, digits

Ask = registry_service_pb2.GetLineageRequest
Search = registry_service_pb2.SearchModelsRequest
VISION = ((HEADER_TEAM, "vision"), (HEADER_ROLE, "deployer"))
FRAUD = ((HEADER_TEAM, "fraud"), (HEADER_ROLE, "deployer"))


def made(name: str, version: str, parent: str = "", **lineage: str) -> registry_service_pb2.CreateModelRequest:
    """A version with a lineage of its own."""
    return digits(OLD, name=name, version=version, metadata={}, lineage={"parent_version": parent, **lineage})


@pytest.fixture
async def family(registry: Registry, settings: RegistrySettings) -> Registry:
    """Three generations: two of vision's, then one of fraud's, and one of vision's made from that."""
    url = settings.database_url.get_secret_value().replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for team in ("vision", "fraud"):
            await connection.execute("INSERT INTO registry.teams (name, namespace) VALUES (%s, %s)", (team, team))
    known = {"training_run": "mlflow:8f3a", "dataset": "mnist", "code_commit": "abc123", "trained_by": "ann"}
    await registry.calls.CreateModel(made("base", OLD, **known), metadata=VISION)
    await registry.calls.CreateModel(made("base", NEW, OLD, dataset="more"), metadata=VISION)
    await registry.calls.CreateModel(made("theirs", OLD, f"base@{NEW}"), metadata=FRAUD)
    await registry.calls.CreateModel(made("tuned", OLD, f"theirs@{OLD}"), metadata=VISION)
    return registry


async def around(registry: Registry, **fields: object) -> registry_service_pb2.GetLineageResponse:
    """The graph."""
    return await registry.calls.GetLineage(Ask(**fields))  # type: ignore[arg-type]


def ids(graph: registry_service_pb2.GetLineageResponse) -> list[str]:
    """The nodes."""
    return [node.node_id for node in graph.nodes]


async def found(registry: Registry, *nodes: str, metadata: Sequence[tuple[str, str]] = ()) -> list[str]:
    """The versions that a search for these finds."""
    page = await registry.calls.SearchModels(Search(lineage=nodes), metadata=metadata)
    return [f"{one.model_name}@{one.version}" for one in page.versions]


async def test_a_version_shows_what_it_was_made_from_and_what_was_made_from_it(family: Registry) -> None:
    graph = await around(family, model_name="base", version=NEW)
    assert ids(graph) == [
        f"version:base@{NEW}",
        "dataset:more",
        f"version:base@{OLD}",
        f"version:theirs@{OLD}",
        "commit:abc123",
        "dataset:mnist",
        "person:ann",
        "run:mlflow:8f3a",
        f"version:tuned@{OLD}",
    ]
    edges = {(one.from_node, one.relation, one.to_node) for one in graph.edges}
    assert edges == {
        (f"version:base@{OLD}", "parent", f"version:base@{NEW}"),
        ("dataset:more", "trained_on", f"version:base@{NEW}"),
        ("run:mlflow:8f3a", "trained_by_run", f"version:base@{OLD}"),
        ("dataset:mnist", "trained_on", f"version:base@{OLD}"),
        ("commit:abc123", "built_from", f"version:base@{OLD}"),
        ("person:ann", "trained_by", f"version:base@{OLD}"),
        (f"version:base@{NEW}", "parent", f"version:theirs@{OLD}"),
        (f"version:theirs@{OLD}", "parent", f"version:tuned@{OLD}"),
    }
    assert not graph.truncated
    above = await around(family, model_name="base", version="latest", direction="ancestors", depth_max=1)
    assert ids(above) == [f"version:base@{NEW}", "dataset:more", f"version:base@{OLD}"]
    below = await around(family, node_id="dataset:mnist", direction="descendants")
    assert ids(below) == [
        "dataset:mnist",
        f"version:base@{OLD}",
        f"version:base@{NEW}",
        f"version:theirs@{OLD}",
        f"version:tuned@{OLD}",
    ]


async def test_what_is_another_teams_ends_every_path_as_if_it_were_not_there(family: Registry) -> None:
    graph = await family.calls.GetLineage(Ask(node_id="dataset:mnist"), metadata=VISION)
    assert ids(graph) == ["dataset:mnist", f"version:base@{OLD}", f"version:base@{NEW}"]
    tuned = await family.calls.GetLineage(Ask(model_name="tuned", version=OLD), metadata=VISION)
    assert ids(tuned) == [f"version:tuned@{OLD}"]
    theirs = await family.calls.GetLineage(Ask(node_id="dataset:mnist"), metadata=FRAUD)
    unknown = await family.calls.GetLineage(Ask(node_id="dataset:unknown"), metadata=FRAUD)
    assert (ids(theirs), ids(unknown)) == (["dataset:mnist"], ["dataset:unknown"])
    problems = []
    for version in (f"version:base@{OLD}", f"version:nothing@{OLD}"):
        with pytest.raises(MeshError) as caught:
            await family.calls.GetLineage(Ask(node_id=version), metadata=FRAUD)
        assert caught.value.reason is Reason.MODEL_NOT_FOUND
        problems.append(caught.value.message.replace("base", "nothing"))
    assert problems[0] == problems[1]


async def test_versions_are_found_by_what_they_were_made_from_directly_or_through_others(family: Registry) -> None:
    everything = [f"base@{NEW}", f"base@{OLD}", f"theirs@{OLD}", f"tuned@{OLD}"]
    assert await found(family, "dataset:mnist") == everything
    assert await found(family, "dataset:mnist", "dataset:more") == [f"base@{NEW}", f"theirs@{OLD}", f"tuned@{OLD}"]
    assert await found(family, f"version:base@{OLD}") == [f"base@{NEW}", f"theirs@{OLD}", f"tuned@{OLD}"]
    assert await found(family, "run:mlflow:8f3a", metadata=VISION) == [f"base@{NEW}", f"base@{OLD}"]
    assert await found(family, "person:ann", metadata=FRAUD) == []
    assert await found(family, "dataset:nothing") == []


async def test_circles_end(registry: Registry) -> None:
    await registry.calls.CreateModel(made("a", OLD, f"b@{OLD}"))
    await registry.calls.CreateModel(made("b", OLD, f"a@{OLD}"))
    graph = await around(registry, model_name="a", version=OLD, depth_max=100)
    assert (len(graph.nodes), len(graph.edges)) == (2, 2)
    assert await found(registry, f"version:a@{OLD}") == [f"a@{OLD}", f"b@{OLD}"]


async def test_a_parent_that_was_never_registered_is_not_shown_until_it_is(registry: Registry) -> None:
    await registry.calls.CreateModel(made("child", OLD, f"parent@{OLD}"))
    assert ids(await around(registry, model_name="child", version=OLD)) == [f"version:child@{OLD}"]
    await registry.calls.CreateModel(made("parent", OLD))
    assert len((await around(registry, model_name="child", version=OLD)).nodes) == 2


async def test_names_of_any_length_and_script_are_nodes(registry: Registry) -> None:
    name = "データ:" + "é" * 2000
    await registry.calls.CreateModel(made("long", OLD, dataset=name))
    assert await found(registry, f"dataset:{name}") == [f"long@{OLD}"]
    assert ids(await around(registry, node_id=f"dataset:{name}")) == [f"dataset:{name}", f"version:long@{OLD}"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"node_id": "mnist"}, "node_id"),
        ({"node_id": "table:mnist"}, "node_id"),
        ({"node_id": "dataset:"}, "node_id"),
        ({"node_id": "version:base"}, "node_id"),
        ({"node_id": "dataset:a", "direction": "sideways"}, "direction"),
        ({"node_id": "dataset:a", "depth_max": 101}, "depth_max"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_its_field(
    registry: Registry, fields: dict[str, object], named: str
) -> None:
    with pytest.raises(MeshError) as caught:
        await around(registry, **fields)
    assert (caught.value.reason, caught.value.violations[0].field) == (Reason.INVALID_FIELD, named)
