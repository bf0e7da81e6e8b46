"""Wishes on their way in: what the registry says of a version decides whether one is stored."""

import pytest

from services.common.errors import MeshError, Reason
from services.deployer.domain.deployment import NewDeployment, Recipe, Status, Wish
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.signal import Signal
from tests.support.clock import FakeClock
from tests.support.deployer_fakes import FakeVersions, MemoryStore, recipe


def deployments(store: MemoryStore, of: Recipe) -> Deployments:
    return Deployments(
        store=store,
        versions=FakeVersions({("digits", "v1.0.0"): of}),
        clock=FakeClock(),
        changed=Signal(),
        local_replicas_max=16,
        drain_wait_s=0,
    )


@pytest.mark.parametrize("stage", ["draft", "active", "deprecated"])
async def test_a_version_of_any_other_stage_is_taken_and_pending(stage: str) -> None:
    store = MemoryStore(FakeClock())
    made = await deployments(store, recipe(stage=stage, team="vision")).create(
        NewDeployment("digits", "1.0.0", "main", Wish())
    )
    assert (made.new.version, made.new.team, made.recipe.stage) == ("v1.0.0", "vision", stage)
    assert made.progress.status is Status.PENDING
    assert list(await store.every()) == [made]


@pytest.mark.parametrize(
    ("of", "reason", "advice"),
    [
        (recipe(stage="archived"), Reason.VERSION_ARCHIVED, "set its stage to active or deploy another version"),
        (recipe(artifact_kind="tar.gz"), Reason.FRAMEWORK_UNSUPPORTED, "register the file itself"),
        (recipe(framework="caffe"), Reason.FRAMEWORK_UNSUPPORTED, "register it as one of: onnx"),
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
