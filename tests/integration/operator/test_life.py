"""The operator against a real API server: made, changed, scaled, refused, removed."""

import pytest

from services.common.body import Body, at, items, text, whole
from services.common.errors import MeshError, Reason
from services.operator.domain.names import APPLIED
from tests.integration.operator.conftest import Ground
from tests.support.operator_kube import fetch_failed, ready_status, wish, wished
from tests.support.operator_site import DIGEST, KnownVersions, operator_site
from tests.support.waiting import eventually

KINDS = ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget", "NetworkPolicy")


async def test_a_wish_becomes_replicas_that_answer_and_all_that_they_need(ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace, resources={"replicas": 2, "cpu": "500m", "memory": "1Gi"}))
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}) as site:
        body = await ground.until("digits", phase="active", readyReplicas=2, servedVersion="v1.0.0")
        calls = site.operator.api.calls()
    assert text(body, "status", "artifactDigest") == DIGEST
    assert text(body, "status", "endpoint") == f"digits-v1-0-0.{ground.namespace}.svc:8001"
    for kind in KINDS:
        name = "digits" if kind in {"ServiceAccount", "NetworkPolicy"} else "digits-v1-0-0"
        made = await ground.kube.get(kind, ground.namespace, name)
        assert made is not None, kind
        assert text(made, "metadata", "ownerReferences", 0, "uid") == text(body, "metadata", "uid")
        assert calls["PATCH", kind] == 1
    events = await ground.kube.list("Event", ground.namespace)
    assert ("Answering", "v1.0.0 answers") in {(text(one, "reason"), text(one, "message")) for one in events}

    async def slices_tell() -> bool:
        path = f"/apis/discovery.k8s.io/v1/namespaces/{ground.namespace}/endpointslices"
        [found] = items(await ground.kube.server.call("GET", path, kind="EndpointSlice"), "items")
        assert text(found, "metadata", "labels", "infermesh.dev/version") == "v1.0.0"
        return len(items(found, "endpoints")) == 2

    await eventually(slices_tell)


async def test_what_is_as_it_should_be_costs_no_call(ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace, resources={"cpu": 1, "memory": "1024Mi"}))
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}):
        await ground.until("digits", phase="active")
    # Another one takes over, and finds all done.
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}) as site:
        await eventually(lambda: site.operator.queue.looks >= 1 and len(site.operator.queue) == 0)
        for _ in range(3):
            site.operator.queue.add((ground.namespace, "digits"))
            await eventually(lambda: len(site.operator.queue) == 0)
        assert {kind for _, kind in site.operator.api.calls()} == {"Lease"}


async def test_somebody_elses_change_is_taken_back_and_what_is_deleted_comes_back(ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace))
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}):
        await ground.until("digits", phase="active")
        await ground.kube.patch("Deployment", ground.namespace, "digits-v1-0-0", {"spec": {"replicas": 4}})

        async def is_one() -> bool:
            found = await ground.kube.get("Deployment", ground.namespace, "digits-v1-0-0")
            return whole(found, "spec", "replicas") == 1

        await eventually(is_one)
        before = await ground.kube.get("Service", ground.namespace, "digits-v1-0-0")
        await ground.kube.delete("Service", ground.namespace, "digits-v1-0-0")

        async def is_back() -> bool:
            found = await ground.kube.get("Service", ground.namespace, "digits-v1-0-0")
            return found is not None and text(found, "metadata", "uid") != text(before, "metadata", "uid")

        await eventually(is_back)


async def test_another_version_answers_before_the_old_one_leaves(ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace))
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}):
        await ground.until("digits", phase="active")
        ground.kubelet.fate = lambda _: None
        await ground.kube.apply(wish(ground.namespace, version="v2.0.0"))
        await ground.until("digits", phase="deploying", servedVersion="v1.0.0", replicas=2)
        assert await ground.kube.get("Service", ground.namespace, "digits-v1-0-0") is not None
        ground.kubelet.fate = ready_status
        await ground.until("digits", phase="active", servedVersion="v2.0.0")
        await ground.gone("Service", "digits-v1-0-0")
        old = await ground.kube.get("Deployment", ground.namespace, "digits-v1-0-0")
        assert old is not None, "its replicas go on for as long as requests may be on their way"
        await ground.gone("Deployment", "digits-v1-0-0")
        await ground.gone("PodDisruptionBudget", "digits-v1-0-0")
        await ground.until("digits", phase="active", replicas=1, readyReplicas=1)


async def test_a_change_of_mind_brings_back_what_was_about_to_go(ground: Ground) -> None:
    options = {"namespaces": ground.namespace, "drain_s": 60}
    await ground.kube.apply(wish(ground.namespace))
    async with operator_site(ground.kubeconfig, options=options):
        first = await ground.until("digits", phase="active")
        await ground.kube.apply(wish(ground.namespace, version="v2.0.0"))
        await ground.gone("Service", "digits-v1-0-0")
        kept = await ground.kube.get("Deployment", ground.namespace, "digits-v1-0-0")
        await ground.kube.apply(wish(ground.namespace))
        await ground.gone("Service", "digits-v2-0-0")
        back = await ground.kube.get("Deployment", ground.namespace, "digits-v1-0-0")
        assert text(back, "metadata", "uid") == text(kept, "metadata", "uid")
        assert at(back, "metadata", "annotations", "infermesh.dev/draining-since") is None
        assert text(back, "metadata", "annotations", APPLIED) == text(kept, "metadata", "annotations", APPLIED)
        body = await ground.until("digits", servedVersion="v1.0.0", phase="active")
        assert text(body, "metadata", "uid") == text(first, "metadata", "uid")


async def test_kubectl_scale_and_an_autoscaler_both_decide_how_many(ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace, resources={"cpu": 1}))
    scaled = {"minReplicas": 2, "maxReplicas": 6, "targetCpuPercent": 70}
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}):
        await ground.until("digits", phase="active", readyReplicas=1)
        # What `kubectl scale md/digits --replicas=3` sends.
        await ground.kube.patch("ModelDeployment", ground.namespace, "digits", {"spec": {"replicas": 3}}, "scale")
        await ground.until("digits", phase="active", readyReplicas=3)
        await ground.kube.patch("ModelDeployment", ground.namespace, "digits", {"spec": {"autoscaling": scaled}})
        await eventually(lambda: ground.kube.get("HorizontalPodAutoscaler", ground.namespace, "digits-v1-0-0"))
        await ground.until("digits", phase="active", readyReplicas=3)
        # What a HorizontalPodAutoscaler sends.
        await ground.kube.patch("Deployment", ground.namespace, "digits-v1-0-0", {"spec": {"replicas": 5}}, "scale")
        await ground.until("digits", phase="active", readyReplicas=5)
        # A change of something else leaves its number alone.
        await ground.kube.patch(
            "ModelDeployment", ground.namespace, "digits", {"spec": {"resources": {"memory": "2Gi"}}}
        )
        await ground.until("digits", phase="active", readyReplicas=5, observedGeneration=4)
        await ground.kube.patch("ModelDeployment", ground.namespace, "digits", {"spec": {"autoscaling": None}})
        await ground.until("digits", phase="active", readyReplicas=3)
        await ground.gone("HorizontalPodAutoscaler", "digits-v1-0-0")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"version": "1.0"}, "version must be a semantic version with its leading v, such as v1.2.3 or v1.2.3-rc.1"),
        ({"modelName": "Digits"}, "modelName must be 1 to 63 of a-z, 0-9, '-' and '_'"),
        ({"resources": {"cpu": "lots"}}, "cpu must be a quantity above 0, such as 4 or 500m"),
        ({"resources": {"gpu": 2, "gpuSharing": "mps"}}, "gpuSharing shares one GPU between replicas; set gpu to 1"),
        ({"resources": {"replicas": 1001}}, "should be less than or equal to 1000"),
        ({"autoscaling": {"minReplicas": 4, "maxReplicas": 3, "targetQueueDepth": 1}}, "must be at most maxReplicas"),
        ({"autoscaling": {}}, "state at least one target that the number of replicas shall follow"),
        ({"autoscaling": {"targetCpuPercent": 70}}, "state resources.cpu"),
        ({"serving": {"precision": "fp16"}}, "serving.precision fp16 needs a GPU"),
        ({"serving": {"pinned": True}, "autoscaling": {"minReplicas": 0}}, "a pinned version never sleeps"),
        ({"trafficSplit": {"v1.0.0": 60, "v2.0.0": 30}}, "whole percentages that add up to 100"),
        ({"batching": {"max_batch_size": 3}}, "max_batch_size"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_bad_spec_is_refused_with_what_to_do(ground: Ground, spec: dict[str, object], words: str) -> None:
    with pytest.raises(MeshError) as refused:
        await ground.kube.apply(wished(ground.namespace, spec), dry_run=True)
    assert refused.value.reason is Reason.CLUSTER_REFUSED
    assert words in refused.value.message


async def test_what_is_fixed_stays_fixed(ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace))
    for change, words in (
        ({"modelName": "letters"}, "modelName is fixed once made; delete this ModelDeployment"),
        ({"environment": "dev"}, "environment is fixed once made"),
        ({"deploymentName": "other"}, "deploymentName is fixed once made"),
    ):
        with pytest.raises(MeshError, match=words):
            await ground.kube.patch("ModelDeployment", ground.namespace, "digits", {"spec": change})


async def test_two_writers_of_one_field_are_told_of_each_other(ground: Ground) -> None:
    await ground.kube.apply(wish(ground.namespace, resources={"replicas": 2}))
    with pytest.raises(MeshError, match='conflict with "kubectl"') as refused:
        await ground.kube.apply(
            wish(ground.namespace, resources={"replicas": 3}), manager="infermesh-deployer", force=False
        )
    assert refused.value.reason is Reason.ETAG_MISMATCH
    # Of different fields they agree; and conditions of the deployer stay beside the operator's.
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}):
        body = await ground.until("digits", phase="active", readyReplicas=2)
        routed = {
            "type": "Routed",
            "status": "True",
            "reason": "Routed",
            "message": "the router sends requests here",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        own = {
            "apiVersion": body["apiVersion"],
            "kind": body["kind"],
            "metadata": {"name": "digits", "namespace": ground.namespace},
            "status": {"conditions": [routed]},
        }
        path = f"/apis/infermesh.dev/v1alpha1/namespaces/{ground.namespace}/modeldeployments/digits/status"
        query = {"fieldManager": "infermesh-deployer", "force": "true"}
        await ground.kube.server.call(
            "PATCH", path, kind="status", query=query, body=own, content_type="application/apply-patch+yaml"
        )
        await ground.kube.patch("ModelDeployment", ground.namespace, "digits", {"spec": {"resources": {"replicas": 1}}})
        body = await ground.until("digits", phase="active", readyReplicas=1)
    types = [text(one, "type") for one in items(body, "status", "conditions")]
    assert "Routed" in types
    assert types.count("Ready") == 1


async def test_removal_leaves_the_traffic_first_and_waits_for_the_router(ground: Ground) -> None:
    options = {"namespaces": ground.namespace, "drain_s": 2}
    await ground.kube.apply(wish(ground.namespace))
    async with operator_site(ground.kubeconfig, options=options):
        await ground.until("digits", phase="active")
        await ground.kube.delete("ModelDeployment", ground.namespace, "digits")
        await ground.gone("Service", "digits-v1-0-0")
        body = await ground.until("digits", phase="terminating")
        assert items(body, "metadata", "finalizers") == ["infermesh.dev/drain"]
        pods = await ground.kube.list("Pod", ground.namespace)
        assert len(pods) == 1, "it goes on answering while it drains"
        await ground.gone("ModelDeployment", "digits")
        for kind in ("Deployment", "PodDisruptionBudget"):
            await ground.gone(kind, "digits-v1-0-0")
        await ground.gone("ServiceAccount", "digits")

        async def no_pods() -> bool:
            return not await ground.kube.list("Pod", ground.namespace)

        await eventually(no_pods)


async def test_an_operator_that_dies_in_mid_roll_is_taken_over_from(ground: Ground) -> None:
    options = {"namespaces": ground.namespace}
    await ground.kube.apply(wish(ground.namespace))
    async with operator_site(ground.kubeconfig, options=options):
        await ground.until("digits", phase="active")
        ground.kubelet.fate = lambda _: None
        await ground.kube.apply(wish(ground.namespace, version="v2.0.0"))
        await ground.until("digits", phase="deploying", servedVersion="v1.0.0")
    # Nobody works; the cluster goes on by itself, and the wish changes once more.
    ground.kubelet.fate = ready_status

    async def new_one_answers() -> bool:
        found = await ground.kube.get("Deployment", ground.namespace, "digits-v2-0-0")
        return whole(found, "status", "readyReplicas") == 1

    await eventually(new_one_answers)
    assert await ground.kube.get("Service", ground.namespace, "digits-v1-0-0") is not None
    async with operator_site(ground.kubeconfig, options=options):
        await ground.until("digits", phase="active", servedVersion="v2.0.0", replicas=1)
        await ground.gone("Deployment", "digits-v1-0-0")


async def test_two_operators_do_not_work_at_once(ground: Ground) -> None:
    options = {"namespaces": ground.namespace, "lease_name": f"lease-{ground.namespace}"}
    async with operator_site(ground.kubeconfig, options=options) as first:
        await eventually(lambda: first.operator.leader.leads)
        async with operator_site(ground.kubeconfig, options=options) as second:
            await ground.kube.apply(wish(ground.namespace))
            await ground.until("digits", phase="active")
            assert not second.operator.leader.leads
            assert second.operator.queue.looks == 0
            await first.operator.lifecycle.stop()
            await eventually(lambda: second.operator.leader.leads, timeout_s=2.0)
            await ground.kube.apply(wish(ground.namespace, resources={"replicas": 2}))
            await ground.until("digits", phase="active", readyReplicas=2)


async def test_a_version_that_is_not_registered_is_said_so_and_what_answers_stays(ground: Ground) -> None:
    versions = KnownVersions(missing={("digits", "v9.0.0")})
    await ground.kube.apply(wish(ground.namespace))
    async with operator_site(ground.kubeconfig, versions=versions, options={"namespaces": ground.namespace}):
        await ground.until("digits", phase="active")
        await ground.kube.apply(wish(ground.namespace, version="v9.0.0"))
        body = await ground.until("digits", phase="failed", servedVersion="v1.0.0", readyReplicas=1)
        assert text(body, "status", "message") == "model 'digits' has no version v9.0.0; register it"
        assert (await ground.condition("digits", "Validated"))[:2] == ("False", "VersionNotFound")
        assert (await ground.condition("digits", "Available"))[0] == "True"

        async def said() -> bool:
            events = await ground.kube.list("Event", ground.namespace)
            return any(text(one, "reason") == "VersionNotFound" and text(one, "type") == "Warning" for one in events)

        await eventually(said)


async def test_why_a_replica_does_not_start_is_told_in_its_own_words(ground: Ground) -> None:
    words = "ARTIFACT_CORRUPT: the artifact has SHA-256 00 where 9f was registered; register it anew"
    ground.kubelet.fate = fetch_failed(f"one line\n{words}\n")
    await ground.kube.apply(wish(ground.namespace))
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}):
        body = await ground.until("digits", phase="failed", timeout_s=40)
        assert text(body, "status", "message") == f"container fetch: {words}"
        assert (await ground.condition("digits", "RolledOut"))[:2] == ("False", "FetchFailed")


async def _quota(ground: Ground, **hard: str) -> None:
    body: Body = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team", "namespace": ground.namespace},
        "spec": {"hard": {key.replace("_", "."): value for key, value in hard.items()}},
    }
    await ground.kube.apply(body)

    async def counted() -> bool:
        found = await ground.kube.get("ResourceQuota", ground.namespace, "team")
        return at(found, "status", "hard") == at(found, "spec", "hard")

    await eventually(counted)


async def test_a_quota_refuses_before_anything_moves_and_grants_once_there_is_room(ground: Ground) -> None:
    await _quota(ground, limits_cpu="3")
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}):
        await ground.kube.apply(wish(ground.namespace, resources={"replicas": 2, "cpu": "1"}))
        await ground.until("digits", phase="active", readyReplicas=2)
        await ground.kube.apply(wish(ground.namespace, resources={"replicas": 5, "cpu": "1"}))
        body = await ground.until("digits", phase="failed", readyReplicas=2, servedVersion="v1.0.0")
        assert "quota team allows 3 of limits.cpu, 2 is used, and this needs 3 more" in text(body, "status", "message")
        assert (await ground.condition("digits", "QuotaGranted"))[:2] == ("False", "QuotaExceeded")
        deployment = await ground.kube.get("Deployment", ground.namespace, "digits-v1-0-0")
        assert whole(deployment, "spec", "replicas") == 2
        await _quota(ground, limits_cpu="8")
        await ground.kube.apply(wish(ground.namespace, resources={"replicas": 4, "cpu": "1"}))
        await ground.until("digits", phase="active", readyReplicas=4)
        assert (await ground.condition("digits", "QuotaGranted"))[0] == "True"


async def test_what_the_api_server_would_refuse_half_way_is_refused_before_anything_moves(ground: Ground) -> None:
    scalers = "count/horizontalpodautoscalers.autoscaling"
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}):
        await ground.kube.apply(wish(ground.namespace, resources={"cpu": "1"}))
        await ground.until("digits", phase="active")
        await _quota(ground, **{scalers.replace(".", "_"): "0"})
        scaled = {"maxReplicas": 3, "targetCpuPercent": 70}
        await ground.kube.apply(wish(ground.namespace, resources={"cpu": "2"}, autoscaling=scaled))
        body = await ground.until("digits", phase="failed", readyReplicas=1, servedVersion="v1.0.0")
        assert f"exceeded quota: team, requested: {scalers}=1" in text(body, "status", "message")
        assert (await ground.condition("digits", "QuotaGranted"))[:2] == ("False", "QuotaExceeded")
        deployment = await ground.kube.get("Deployment", ground.namespace, "digits-v1-0-0")
        limits = at(deployment, "spec", "template", "spec", "containers", 0, "resources", "limits")
        assert limits == {"cpu": "1"}, "the first half was not applied either"


async def test_an_ab_test_is_started_told_and_stopped(ground: Ground) -> None:
    test = {
        "apiVersion": "infermesh.dev/v1alpha1",
        "kind": "ABTest",
        "metadata": {"name": "two-vs-one", "namespace": ground.namespace},
        "spec": {"modelName": "digits", "versions": {"v1.0.0": 90, "v2.0.0": 10}},
    }
    async with operator_site(ground.kubeconfig, options={"namespaces": ground.namespace}) as site:
        await ground.kube.apply(test)

        async def runs() -> bool:
            found = await ground.kube.get("ABTest", ground.namespace, "two-vs-one")
            return text(found, "status", "phase") == "running" and text(found, "status", "control") == "v1.0.0"

        await eventually(runs)
        with pytest.raises(MeshError, match="a test that runs is not changed"):
            await ground.kube.patch("ABTest", ground.namespace, "two-vs-one", {"spec": {"autoPromote": True}})
        await ground.kube.patch("ABTest", ground.namespace, "two-vs-one", {"spec": {"stopped": True}})

        async def stopped() -> bool:
            found = await ground.kube.get("ABTest", ground.namespace, "two-vs-one")
            return text(found, "status", "phase") == "stopped"

        await eventually(stopped)
        assert site.ab_tests.stopped == {"two-vs-one": "spec.stopped is true"}
        await ground.kube.delete("ABTest", ground.namespace, "two-vs-one")
        await ground.gone("ABTest", "two-vs-one")
