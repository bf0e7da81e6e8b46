"""Restarts and the floor of a forecast, on a real API server with its controllers."""

from datetime import timedelta

import pytest

from services.common.body import Body, at, text, whole
from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.deployer.domain.cluster.floor import Floor
from services.deployer.domain.cluster.objects import FIELD_MANAGER, status_of
from services.deployer.domain.cluster.objects import read_object as read
from tests.integration.operator.conftest import Ground
from tests.support.operator_kube import ready_status, wish
from tests.support.operator_site import operator_site
from tests.support.waiting import eventually

SCALED = {"minReplicas": 1, "maxReplicas": 4, "targetConcurrency": 4, "predictive": True}


async def pods(ground: Ground) -> set[str]:
    """The names of the pods that are there."""
    return {text(one, "metadata", "name") for one in await ground.kube.list("Pod", ground.namespace)}


async def test_a_restart_makes_every_pod_anew_and_none_goes_before_another_answers(ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace, resources={"replicas": 2}))
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace, "drain_s": 1}):
        await ground.until("digits", phase="active", readyReplicas=2)
        before = await pods(ground)
        ground.kubelet.fate = lambda _: None
        patch = {"spec": {"restartedAt": "2026-01-15T12:00:00.000001Z"}}
        await ground.kube.patch("ModelDeployment", ground.namespace, "digits", patch)
        await ground.until("digits", phase="deploying", readyReplicas=2, observedGeneration=2)

        async def one_more() -> bool:
            return len(await pods(ground)) == 3

        await eventually(one_more)
        assert before < await pods(ground), "both answer until another one does"
        ground.kubelet.fate = ready_status
        await ground.until("digits", phase="active", readyReplicas=2, observedGeneration=2)

        async def all_new() -> bool:
            there = await pods(ground)
            return len(there) == 2 and not there & before

        await eventually(all_new, timeout_s=30)
        # What is wished again is done already.
        after = await pods(ground)
        await ground.kube.patch("ModelDeployment", ground.namespace, "digits", patch)
        await ground.kube.patch(
            "ModelDeployment", ground.namespace, "digits", {"spec": {"batching": {"enabled": False}}}
        )
        await ground.until("digits", phase="active", observedGeneration=3)
        assert await pods(ground) == after


async def test_only_a_moment_is_taken_for_one(ground: Ground) -> None:
    for said in ("2026-01-15T12:00:00Z", "2026-01-15T12:00:00.5+01:00"):
        await ground.kube.apply(wish(ground.namespace, restartedAt=said), dry_run=True)
    with pytest.raises(MeshError, match=r"spec\.restartedAt"):
        await ground.kube.apply(wish(ground.namespace, restartedAt="today"), dry_run=True)


async def test_a_forecast_raises_what_an_autoscaler_keeps_until_it_ends(ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace, autoscaling=SCALED))

    async def foresee(replicas: int, *, seconds: float) -> None:
        """As the deployer writes it."""
        body = await ground.kube.get("ModelDeployment", ground.namespace, "digits")
        assert body is not None
        until = (SystemClock().now() + timedelta(seconds=seconds)).replace(microsecond=0)
        status = status_of(read(body, cluster="c"), (), Floor(replicas, until))
        await ground.kube.apply(status, manager=FIELD_MANAGER, subresource="status")

    async def keeps(replicas: int) -> None:
        async def looks() -> Body | None:
            found = await ground.kube.get("HorizontalPodAutoscaler", ground.namespace, "digits-v1-0-0")
            return found if whole(found, "spec", "minReplicas") == replicas else None

        await eventually(looks, timeout_s=20, what=f"at least {replicas}")

    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}) as site:
        await ground.until("digits", phase="active")
        await keeps(1)
        await foresee(3, seconds=600)
        await keeps(3)
        assert (await ground.condition("digits", "Autoscaled"))[0] in {"True", "False"}
        calls = site.operator.api.calls()["PATCH", "HorizontalPodAutoscaler"]
        await foresee(3, seconds=700)
        await foresee(3, seconds=800)
        body = await ground.until("digits", observedGeneration=1)
        assert at(body, "status", "forecast", "replicas") == 3, "the operator leaves it alone"
        assert site.operator.api.calls()["PATCH", "HorizontalPodAutoscaler"] == calls, "a renewal costs the HPA nothing"
        await foresee(9, seconds=4)
        await keeps(4)
        await keeps(1)
