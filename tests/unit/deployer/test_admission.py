"""What is checked beforehand, and how it is told."""

from dataclasses import replace

import pytest

from services.common.access.book import AccessBook, AccessUpdate, TeamTerms
from services.common.access.decide import Standing
from services.common.errors import MeshError, Reason
from services.deployer.domain.deployment import NewDeployment, Resources, Wish
from services.deployer.engines.admission import Admission
from tests.support.clock import FakeClock
from tests.support.deployer_fakes import FakeEnvironments, FakeVersions, nobody_outside, recipe
from tests.support.deployer_store import MemoryStore

NEW = NewDeployment("digits", "1.0.0", "prod", Wish(), traffic_split={"1.0.0": 100})


class Artifacts:
    """An `ArtifactSource` with one artifact."""

    async def size(self, digest: str) -> int:
        """Of the one."""
        if digest != "0" * 64:
            raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"there is no artifact {digest}; register the version anew")
        return 12_300_000

    def pieces(self, digest: str, *, offset_bytes: int):  # type: ignore[no-untyped-def]
        """Nobody fetches anything before it is deployed."""
        raise AssertionError((digest, offset_bytes))


class World:
    def __init__(self, *, cpu: str = "") -> None:
        self.store = MemoryStore(FakeClock())
        self.versions = FakeVersions({("digits", "v1.0.0"): recipe(team="vision")})
        book = AccessBook()
        teams = {"vision": TeamTerms("vision", cpu=cpu)}
        book.apply(AccessUpdate("1", frozenset(), teams, {"digits": Standing("vision")}, models_reset=True))
        self.admission = Admission(
            store=self.store,
            versions=self.versions,
            artifacts=Artifacts(),
            environments=FakeEnvironments(),
            terms=book,
            clock=FakeClock(),
            local_replicas_max=16,
            open_external=nobody_outside,
            external_hosts=(),
        )

    async def checked(self, new: NewDeployment = NEW) -> dict[str, tuple[bool, str, str]]:
        found = await self.admission.checked(new)
        return {one.type: (one.status, one.reason, one.message) for one in found}


async def test_each_check_says_how_it_went_and_nothing_is_stored() -> None:
    world = World()
    checks = await world.checked()
    assert list(checks) == ["Fields", "Version", "Artifact", "Requirements", "QuotaGranted", "Name", "Traffic"]
    assert all(passed for passed, _, _ in checks.values()), checks
    assert "12.3 MB" in checks["Artifact"][2]
    assert "v1.0.0 100 %" in checks["Traffic"][2]
    assert list(await world.store.every()) == []


@pytest.mark.parametrize(
    ("new", "kind", "reason", "words"),
    [
        (replace(NEW, deployment_name="No!"), "Fields", "INVALID_FIELD", "deployment_name"),
        (replace(NEW, version="v9.0.0"), "Version", "VERSION_NOT_FOUND", "v9.0.0"),
        (
            replace(NEW, traffic_split={"v1.0.0": 50, "v0.1.0": 50}),
            "Traffic",
            "VERSION_NOT_DEPLOYED",
            "deploy it first",
        ),
    ],
)
async def test_what_does_not_pass_is_named_with_what_to_do(
    new: NewDeployment, kind: str, reason: str, words: str
) -> None:
    checks = await World().checked(new)
    assert checks[kind][:2] == (False, reason)
    assert words in checks[kind][2]


async def test_requirements_are_read_beforehand() -> None:
    world = World()
    world.versions.recipes["digits", "v1.0.0"] = replace(
        recipe(framework="python", team="vision"), requirements=("--index-url https://elsewhere",)
    )
    checks = await world.checked()
    assert checks["Requirements"][:2] == (False, "ARTIFACT_INVALID")
    world.versions.recipes["digits", "v1.0.0"] = replace(
        recipe(framework="sklearn", team="vision"), requirements=("mlflow==2",)
    )
    assert "left out: mlflow==2 (no part of sklearn)" in (await world.checked())["Requirements"][2]


async def test_an_artifact_that_is_gone_is_found_out() -> None:
    world = World()
    world.versions.recipes["digits", "v1.0.0"] = recipe(team="vision", digest="f" * 64)
    assert (await world.checked())["Artifact"][:2] == (False, "ARTIFACT_NOT_FOUND")


async def test_a_quota_and_a_name_that_is_taken_are_told_apart() -> None:
    world = World(cpu="4")
    sized = replace(NEW, wish=Wish(Resources(1, "3", "1Gi")))
    assert (await world.checked(sized))["QuotaGranted"][0]
    assert (await world.checked())["QuotaGranted"][:2] == (False, "INVALID_FIELD")
    greedy = await world.checked(replace(NEW, wish=Wish(Resources(2, "3", "1Gi"))))
    assert greedy["QuotaGranted"][:2] == (False, "QUOTA_EXCEEDED")
    await world.store.create(replace(NEW, version="v1.0.0", team="vision"), recipe())
    taken = await world.checked(sized)
    assert (taken["QuotaGranted"][0], taken["Name"][:2]) == (True, (False, "DEPLOYMENT_EXISTS"))


async def test_a_registry_that_is_away_is_no_verdict() -> None:
    world = World()

    async def recipe_(*_: str):  # type: ignore[no-untyped-def]
        raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the registry is away")

    world.versions.recipe = recipe_  # type: ignore[method-assign, assignment]
    with pytest.raises(MeshError, match="the registry is away"):
        await world.checked()
