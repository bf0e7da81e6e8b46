"""The whole operator over an API server that is played by kmock: what needs no cluster to be proven, on any machine."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from services.common.body import Body, at, items, text, whole
from services.common.clock import SystemClock
from services.common.kubernetes.conditions import find
from services.deployer.domain.cluster.floor import Floor
from services.deployer.domain.cluster.objects import read_object, status_of
from services.operator.domain.fetch_key import key_in
from services.operator.domain.manifests.team import Team
from tests.support.operator_kube import Kube, kube, wish
from tests.support.operator_mock import PlayedApiServer, played_api_server
from tests.support.operator_site import KnownTeams, KnownVersions, PlayedAbTests, PlayedFetchKeys, operator_site
from tests.support.waiting import eventually

NAMESPACE = "vision"
OPTIONS = {"lease_namespace": NAMESPACE}


@dataclass
class Played:
    """The server, and how a person speaks to it."""

    server: PlayedApiServer
    kubeconfig: Path
    kube: Kube

    async def until(self, name: str = "digits", **status: object) -> Body:
        """A ModelDeployment once its status says so."""

        async def looks() -> Body | None:
            body = await self.kube.get("ModelDeployment", NAMESPACE, name)
            told = at(body, "status")
            found = told if isinstance(told, dict) else {}
            return body if {key: found.get(key) for key in status} == status else None

        found = await eventually(looks, what=f"{name}: {status}")
        assert found is not None
        return found

    def kinds(self) -> set[tuple[str, str]]:
        """Kind and name of all that there is but leases and Events."""
        return {
            (body["kind"], name)
            for (_, _, name), body in self.server.kept.items()
            if body["kind"] not in {"Lease", "Event"}
        }


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[Played]:
    async with played_api_server(tmp_path) as (server, kubeconfig), kube(kubeconfig) as client:
        yield Played(server, kubeconfig, client)


async def test_a_wish_is_brought_about_and_then_costs_nothing(played: Played) -> None:
    await played.kube.apply(wish(NAMESPACE, resources={"replicas": 2}))
    async with operator_site(played.kubeconfig, options=OPTIONS) as site:
        await played.until(phase="active", readyReplicas=2, servedVersion="v1.0.0")
        assert played.kinds() == {
            ("ModelDeployment", "digits"),
            ("ServiceAccount", "digits"),
            ("NetworkPolicy", "digits"),
            *((kind, "digits-v1-0-0") for kind in ("Deployment", "Service", "PodDisruptionBudget")),
        }
        await eventually(lambda: len(site.operator.queue) == 0)
        calls = site.operator.api.calls()
        site.operator.queue.add((NAMESPACE, "digits"))
        await eventually(lambda: len(site.operator.queue) == 0)
        more = {key: number - calls.get(key, 0) for key, number in site.operator.api.calls().items()}
        assert {kind for (_, kind), number in more.items() if number} <= {"Lease"}


async def test_what_somebody_else_changes_or_deletes_is_put_right(played: Played) -> None:
    await played.kube.apply(wish(NAMESPACE))
    async with operator_site(played.kubeconfig, options=OPTIONS):
        await played.until(phase="active")
        await played.kube.patch("Deployment", NAMESPACE, "digits-v1-0-0", {"spec": {"replicas": 7}})

        async def is_one() -> bool:
            return whole(await played.kube.get("Deployment", NAMESPACE, "digits-v1-0-0"), "spec", "replicas") == 1

        await eventually(is_one)
        await played.kube.delete("PodDisruptionBudget", NAMESPACE, "digits-v1-0-0")
        await eventually(lambda: ("PodDisruptionBudget", "digits-v1-0-0") in played.kinds())


async def test_a_change_of_version_is_resumed_by_whoever_takes_over(played: Played) -> None:
    await played.kube.apply(wish(NAMESPACE))
    async with operator_site(played.kubeconfig, options=OPTIONS):
        await played.until(phase="active")
        played.server.replicas_ready = False
        await played.kube.apply(wish(NAMESPACE, version="v2.0.0"))
        await played.until(phase="deploying", servedVersion="v1.0.0", replicas=2, readyReplicas=1)
        assert ("Service", "digits-v1-0-0") in played.kinds()
    await played.server.roll_on()
    assert ("Service", "digits-v1-0-0") in played.kinds(), "nobody works now"
    async with operator_site(played.kubeconfig, options=OPTIONS):
        await played.until(phase="active", servedVersion="v2.0.0", replicas=1)
        assert not {name for _, name in played.kinds()} & {"digits-v1-0-0"}


async def test_a_forecast_is_the_fewest_until_it_ends_and_a_restart_is_in_the_template(played: Played) -> None:
    scaled = {"minReplicas": 1, "maxReplicas": 4, "targetConcurrency": 4, "predictive": True}
    await played.kube.apply(wish(NAMESPACE, autoscaling=scaled))

    async def keeps(replicas: int) -> None:
        async def looks() -> bool:
            found = await played.kube.get("HorizontalPodAutoscaler", NAMESPACE, "digits-v1-0-0")
            return whole(found, "spec", "minReplicas") == replicas

        await eventually(looks, what=f"at least {replicas}")

    async with operator_site(played.kubeconfig, options=OPTIONS):
        body = await played.until(phase="active")
        until = SystemClock().now() + timedelta(seconds=3)
        floor = Floor(9, until.replace(microsecond=0))
        await played.kube.apply(status_of(read_object(body, cluster="c"), (), floor), subresource="status")
        await keeps(4)
        # Nothing happens but that it ends.
        await keeps(1)
        moment = "2026-01-15T12:00:00.000001Z"
        await played.kube.apply(wish(NAMESPACE, autoscaling=scaled, restartedAt=moment))

        async def restarted() -> bool:
            found = await played.kube.get("Deployment", NAMESPACE, "digits-v1-0-0")
            return text(found, "spec", "template", "metadata", "annotations", "infermesh.dev/restarted-at") == moment

        await eventually(restarted)
        await played.until(phase="active", observedGeneration=2)


async def test_removal_takes_the_services_first_and_everything_then(played: Played) -> None:
    await played.kube.apply(wish(NAMESPACE))
    async with operator_site(played.kubeconfig, options=OPTIONS):
        body = await played.until(phase="active")
        assert items(body, "metadata", "finalizers") == ["infermesh.dev/drain"]
        await played.kube.delete("ModelDeployment", NAMESPACE, "digits")
        await eventually(lambda: not played.kinds())


async def test_a_missing_version_is_a_condition_with_what_to_do(played: Played) -> None:
    versions = KnownVersions(missing={("digits", "v1.0.0")})
    await played.kube.apply(wish(NAMESPACE))
    async with operator_site(played.kubeconfig, versions=versions, options=OPTIONS):
        body = await played.until(phase="failed")
        assert text(find(body, "Validated"), "message") == "model 'digits' has no version v1.0.0; register it"
        assert played.kinds() == {("ModelDeployment", "digits")}
        versions.missing.clear()
        await played.kube.apply(wish(NAMESPACE, resources={"replicas": 2}))
        await played.until(phase="active", message="")


async def test_a_quota_without_room_is_a_condition_and_nothing_moves(played: Played) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team", "namespace": NAMESPACE},
        "spec": {},
        "status": {"hard": {"limits.cpu": "4"}, "used": {"limits.cpu": "3"}},
    }
    await played.kube.apply(quota)
    await played.kube.apply(wish(NAMESPACE, resources={"replicas": 2, "cpu": "1"}))
    async with operator_site(played.kubeconfig, options=OPTIONS):
        body = await played.until(phase="failed")
        granted = find(body, "QuotaGranted")
        assert text(granted, "reason") == "QuotaExceeded"
        assert "allows 4 of limits.cpu, 3 is used, and this needs 2 more" in text(granted, "message")
        assert not [kind for kind, _ in played.kinds() if kind == "Deployment"]


async def test_one_of_two_works_and_the_other_takes_over_at_once_when_it_stops(played: Played) -> None:
    async with operator_site(played.kubeconfig, options=OPTIONS) as first:
        await eventually(lambda: first.operator.leader.leads)
        async with operator_site(played.kubeconfig, options=OPTIONS) as second:
            await played.kube.apply(wish(NAMESPACE))
            await played.until(phase="active")
            assert not second.operator.leader.leads
            await first.operator.lifecycle.stop()
            await eventually(lambda: second.operator.leader.leads)
            await played.kube.apply(wish(NAMESPACE, resources={"replicas": 3}))
            await played.until(phase="active", readyReplicas=3)


async def test_an_ab_test_lives_and_dies_with_its_object(played: Played) -> None:
    test = {
        "apiVersion": "infermesh.dev/v1alpha1",
        "kind": "ABTest",
        "metadata": {"name": "two-vs-one", "namespace": NAMESPACE},
        "spec": {"modelName": "digits", "versions": {"v1.0.0": 90, "v2.0.0": 10}},
    }
    tests = PlayedAbTests()
    await played.kube.apply(test)
    async with operator_site(played.kubeconfig, ab_tests=tests, options=OPTIONS):

        async def runs() -> bool:
            return text(await played.kube.get("ABTest", NAMESPACE, "two-vs-one"), "status", "phase") == "running"

        await eventually(runs)
        await played.kube.delete("ABTest", NAMESPACE, "two-vs-one")
        await eventually(lambda: not played.kinds())
        assert tests.stopped == {"two-vs-one": "its ABTest vision/two-vs-one was deleted"}


async def test_a_team_has_a_key_to_fetch_by_for_as_long_as_it_is_a_team(played: Played) -> None:
    team, keys = Team("red", "red-models"), PlayedFetchKeys()
    options = {**OPTIONS, "teams_period_s": 0.05}

    async def until(key_id: str) -> None:
        async def has_it() -> bool:
            key = key_in(await played.kube.get("Secret", "red-models", "infermesh-fetch"), team)
            return key is not None and key.key_id == key_id

        await eventually(has_it, what=key_id)

    for ordinal in (1, 2):
        async with operator_site(played.kubeconfig, teams=KnownTeams([team]), keys=keys, options=options) as site:
            await eventually(lambda site=site: site.operator.leader.leads)  # type: ignore[misc]
            await until(f"key-{2 * ordinal - 1}")
            await played.kube.delete("Secret", "red-models", "infermesh-fetch")
            await until(f"key-{2 * ordinal}")
        # Whoever works next finds that it was revoked meanwhile.
        keys.gone.add(f"key-{2 * ordinal}")
    assert keys.teams == ["red"] * 4
