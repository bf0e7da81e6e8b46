"""Wishes on their way in: what the registry says of a version decides whether one is stored."""

import asyncio
from dataclasses import replace

import pytest

from services.common.access.book import AccessBook, AccessUpdate, TeamTerms
from services.common.access.decide import Standing
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from services.common.signals import Signal
from services.deployer.domain.deployment import NewDeployment, Recipe, Resources, Status, Wish
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.owners import Owners
from tests.support.clock import FakeClock
from tests.support.deployer_fakes import FakeVersions, admission, recipe
from tests.support.deployer_store import MemoryStore


def deployments(
    store: MemoryStore, of: Recipe, book: AccessBook | None = None, changed: Signal | None = None
) -> Deployments:
    return Deployments(
        store=store,
        admission=admission(store, FakeVersions({("digits", "v1.0.0"): of}), book),
        clock=FakeClock(),
        changed=changed or Signal(),
        drain_wait_s=0,
    )


@pytest.mark.parametrize("stage", ["draft", "active", "deprecated"])
async def test_a_version_of_any_other_stage_is_taken_and_pending(stage: str) -> None:
    store = MemoryStore(FakeClock())
    made = await deployments(store, recipe(stage=stage, team="vision"), told()).create(
        NewDeployment("digits", "1.0.0", "main", Wish())
    )
    assert (made.new.version, made.new.team, made.recipe.stage) == ("v1.0.0", "vision", stage)
    assert made.progress.status is Status.PENDING
    assert list(await store.every()) == [made]


@pytest.mark.parametrize(
    ("of", "reason", "advice"),
    [
        (recipe(stage="archived"), Reason.VERSION_ARCHIVED, "set its stage to active or deploy another version"),
        (recipe(framework="caffe"), Reason.FRAMEWORK_UNSUPPORTED, "register it as one of: lightgbm, onnx"),
    ],
)
async def test_what_cannot_be_served_is_refused_at_once_and_nothing_is_stored(
    of: Recipe, reason: Reason, advice: str
) -> None:
    store = MemoryStore(FakeClock())
    with pytest.raises(MeshError, match=advice) as refused:
        await deployments(store, of).create(NewDeployment("digits", "v1.0.0", "main", Wish()))
    assert refused.value.reason is reason
    assert list(await store.every()) == []


def told(*teams: TeamTerms, **models: Standing) -> AccessBook:
    book = AccessBook()
    book.apply(AccessUpdate("1", frozenset(), {team.name: team for team in teams}, models, models_reset=True))
    return book


async def test_a_team_that_requires_signatures_deploys_only_signed_versions() -> None:
    book = told(TeamTerms("vision", require_signature=True), TeamTerms("speech"))
    store = MemoryStore(FakeClock())
    asked = NewDeployment("digits", "v1.0.0", "main", Wish())
    with pytest.raises(MeshError, match="verified signature") as refused:
        await deployments(store, recipe(team="vision"), book).create(asked)
    assert refused.value.reason is Reason.SIGNATURE_REQUIRED
    assert list(await store.every()) == []
    await deployments(store, replace(recipe(team="vision"), signature_verified=True), book).create(asked)
    await deployments(MemoryStore(FakeClock()), recipe(team="speech"), book).create(asked)


async def test_a_teams_quota_holds_for_what_is_made_and_for_what_is_scaled() -> None:
    book, store = told(TeamTerms("vision", cpu="2")), MemoryStore(FakeClock())
    engine = deployments(store, recipe(team="vision"), book)
    with pytest.raises(MeshError, match="may use 2 cpu"):
        await engine.create(NewDeployment("digits", "v1.0.0", "main", Wish(Resources(3, "1"))))
    await engine.create(NewDeployment("digits", "v1.0.0", "main", Wish(Resources(2, "1"))))
    with pytest.raises(MeshError, match="may use 2 cpu"):
        await engine.update("digits", "main", etag="", change=lambda _: Wish(Resources(3, "1")))


async def test_before_the_registry_was_heard_nothing_of_a_team_is_deployed() -> None:
    with pytest.raises(MeshError) as refused:
        await deployments(MemoryStore(FakeClock()), recipe(team="vision")).create(
            NewDeployment("digits", "v1.0.0", "main", Wish())
        )
    assert refused.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_watcher_is_shown_what_it_sees_and_told_when_that_is_taken_away() -> None:
    book = told(digits=Standing("vision"))
    changed, store = Signal(), MemoryStore(FakeClock())
    engine = deployments(store, recipe(), book, changed)
    await engine.create(NewDeployment("digits", "v1.0.0", "main", Wish()))
    caller = Identity(team="vision", role="viewer")
    watched = engine.watch("", lambda: book.sight(caller))
    shown, removed = await anext(watched)
    assert (shown.new.model_name, removed) == ("digits", False)
    book.apply(AccessUpdate("2", frozenset(), {}, {"digits": Standing("speech")}))
    changed.fire()
    shown, removed = await anext(watched)
    assert (shown.new.model_name, removed) == ("digits", True)
    await watched.aclose()  # type: ignore[attr-defined]


async def test_deployments_follow_their_model_to_its_new_team() -> None:
    book, store = told(digits=Standing("vision")), MemoryStore(FakeClock())
    await deployments(store, recipe(team="vision"), book).create(NewDeployment("digits", "v1.0.0", "main", Wish()))
    owners = Owners(store=store, terms=book, changes=book.changes, clock=FakeClock())
    task = asyncio.create_task(owners.run(), name="owners")
    await asyncio.sleep(0)
    book.apply(AccessUpdate("2", frozenset(), {}, {"digits": Standing("speech")}))
    for _ in range(5):
        await asyncio.sleep(0)
    assert [one.new.team for one in await store.every()] == ["speech"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
