"""Every golden manifest, tried on a real API server: all fields exist, and all rules of its own hold."""

import pytest

from services.common.body import Body, table, text
from services.operator.domain.manifests.team import Team
from tests.integration.operator.conftest import Ground
from tests.support.operator_cases import SPECS, TEAMS, manifests
from tests.support.operator_site import KnownTeams, operator_site
from tests.support.waiting import eventually

_NEEDS_MORE_THAN_KUBERNETES = {"ScaledObject", "VerticalPodAutoscaler"}


@pytest.mark.parametrize("case", [*SPECS, *TEAMS])
async def test_the_api_server_takes_each_golden_manifest(ground: Ground, case: str) -> None:
    for manifest in manifests(case):
        if manifest["kind"] in _NEEDS_MORE_THAN_KUBERNETES:
            continue
        metadata = dict(table(manifest, "metadata"))
        if "namespace" in metadata:
            metadata["namespace"] = ground.namespace
        made = await ground.kube.apply({**manifest, "metadata": metadata}, dry_run=True)
        assert text(made, "metadata", "name") == metadata["name"]


async def test_a_team_gets_a_namespace_and_pods_that_are_not_restricted_are_refused_in_it(ground: Ground) -> None:
    name = f"{ground.namespace}-team"
    teams = KnownTeams([Team("red", name, cpu="4", memory="8Gi", gpu=0)])
    try:
        async with operator_site(ground.kubeconfig, teams=teams, options={"lease_namespace": ground.namespace}):

            async def is_made() -> Body | None:
                return await ground.kube.get("RoleBinding", name, "infermesh-admin")

            await eventually(is_made)
        namespace = await ground.kube.get("Namespace", "", name)
        assert text(namespace, "metadata", "labels", "pod-security.kubernetes.io/enforce") == "restricted"
        quota = await ground.kube.get("ResourceQuota", name, "infermesh-team")
        assert table(quota, "spec", "hard")["limits.cpu"] == "4"
        pod: Body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "root", "namespace": name},
            "spec": {"containers": [{"name": "root", "image": "x"}]},
        }
        with pytest.raises(Exception, match='violates PodSecurity "restricted:latest"'):
            await ground.kube.apply(pod, dry_run=True)
        # What the operator makes for replicas is let in.
        [deployment] = [one for one in manifests("secured") if one["kind"] == "Deployment"]
        template = table(deployment, "spec", "template")
        spec = {**table(template, "spec"), "serviceAccountName": "default", "restartPolicy": "Always"}
        fits: Body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "replica", "namespace": name},
            "spec": {name: value for name, value in spec.items() if name != "topologySpreadConstraints"},
        }
        await ground.kube.apply(fits, dry_run=True)
    finally:
        await ground.kube.delete("Namespace", "", name)
