"""What is published where, and what watchers are told."""

import asyncio
from dataclasses import replace

import pytest

from services.deployer.domain.catalog import Place, Site, difference, published
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Status, Wish
from services.deployer.domain.plan import Observation, ServerState
from services.deployer.engines.catalog import Catalog
from tests.support.clock import NOON, FakeClock
from tests.support.deployer_fakes import recipe
from tests.support.deployer_store import MemoryStore

POOL = {name: Place(name, f"{name}:8000", f"{name}:8001") for name in ("triton-0", "triton-1")}
BOTH = {"triton-0": "fingerprint", "triton-1": "fingerprint"}


def deployment(version: str = "v1.0.0", *, model: str = "digits", **progress: object) -> Deployment:
    new = NewDeployment(model, version, f"d-{version[1]}", Wish(), team="vision")
    state = Progress(status=Status.ACTIVE, loaded=BOTH)
    return Deployment(f"{model}{version}", new, recipe(), Wish(), replace(state, **progress), 1, NOON, NOON)  # type: ignore[arg-type]


def ready(*servers: str, name: str = "digits--v1.0.0") -> Observation:
    return {one: ServerState(True, frozenset({name}) if one in servers else frozenset()) for one in POOL}


def sites(*deployments: Deployment) -> list[Site]:
    return [Site(one, {}, POOL) for one in deployments]


def places(one: Deployment, observed: Observation) -> list[str]:
    models = published([Site(one, observed, POOL)])
    return [place.server_id for model in models.values() for version in model.versions for place in version.places]


def test_a_version_is_published_where_it_is_ready_and_was_proven() -> None:
    assert places(deployment(), ready("triton-0", "triton-1")) == ["triton-0", "triton-1"]
    assert places(deployment(), ready("triton-1")) == ["triton-1"]
    assert places(deployment(loaded={"triton-0": "f"}), ready("triton-0", "triton-1")) == ["triton-0"]


@pytest.mark.parametrize("observed", [ready(), {}], ids=["servers just back", "nothing observed yet"])
def test_a_version_that_is_ready_nowhere_stays_published_where_it_was_proven(observed: Observation) -> None:
    assert places(deployment(), observed) == ["triton-0", "triton-1"]


def test_nothing_is_published_that_was_not_proven_or_is_withdrawn_or_whose_server_is_unknown() -> None:
    everywhere = ready("triton-0", "triton-1")
    assert places(deployment(loaded={}), everywhere) == []
    assert places(deployment(withdrawn_at=NOON), everywhere) == []
    assert places(deployment(loaded={"triton-9": "f"}), everywhere) == []


def test_versions_are_in_order_of_precedence() -> None:
    models = published(sites(*(deployment(version) for version in ("v10.0.0", "v9.0.0", "v10.0.0-rc.1"))))
    assert [one.version for one in models["digits"].versions] == ["v9.0.0", "v10.0.0-rc.1", "v10.0.0"]
    assert models["digits"].team == "vision"


def test_a_difference_names_what_changed_and_what_went() -> None:
    before = published(sites(deployment(), deployment(model="gone"), deployment(model="same")))
    after = published(sites(deployment(loaded={"triton-0": "f"}), deployment(model="same"), deployment(model="new")))
    change = difference(before, after)
    assert [model.model_name for model in change.models] == ["digits", "new"]
    assert change.removed == ("gone",)
    assert difference(after, after).models == ()


async def test_watchers_wait_for_the_first_look_then_get_all_and_then_changes() -> None:
    catalog = Catalog(store=MemoryStore(FakeClock()))
    updates = catalog.watch()
    first = asyncio.ensure_future(anext(updates))
    await asyncio.sleep(0)
    assert not first.done()
    await catalog.refresh(sites(deployment()))
    update = await first
    assert (update.revision, update.full, len(update.change.models)) == (1, True, 1)
    second = asyncio.ensure_future(anext(updates))
    await catalog.refresh(sites(deployment()))
    await asyncio.sleep(0)
    assert not second.done()
    await catalog.refresh([])
    update = await second
    assert (update.revision, update.full, update.change.removed) == (2, False, ("digits",))


async def test_an_empty_mesh_is_said_to_be_empty() -> None:
    catalog = Catalog(store=MemoryStore(FakeClock()))
    await catalog.refresh([])
    update = await anext(catalog.watch())
    assert (update.revision, update.full, update.change.models) == (1, True, ())


async def test_a_slow_watcher_gets_several_changes_as_one() -> None:
    catalog = Catalog(store=MemoryStore(FakeClock()))
    await catalog.refresh([])
    updates = catalog.watch()
    await anext(updates)
    await catalog.refresh(sites(deployment()))
    await catalog.refresh(sites(deployment(model="other")))
    update = await anext(updates)
    assert (update.revision, [model.model_name for model in update.change.models]) == (3, ["other"])
    assert update.change.removed == ()
