"""What the deployer applies, on a real API server: its defaults are the domain's, and nothing is refused or lost."""

from dataclasses import replace

from services.deployer.domain.cluster.objects import FIELD_MANAGER, manifest_of, object_name, read_object
from services.deployer.domain.deployment import Autoscaling, NewDeployment, Padding, Resources, Wish
from tests.integration.operator.conftest import Ground

WISH = Wish(
    resources=Resources(replicas=2, cpu="500m", memory="1Gi"),
    autoscaling=Autoscaling(enabled=True, min_replicas=2, max_replicas=4, target_cpu_percent=70.0),
)


async def test_what_is_applied_reads_as_what_was_wished(ground: Ground) -> None:
    padding = replace(WISH, batching=replace(WISH.batching, padding=Padding(input_values={"mask": 1.0})))
    for wish in (Wish(), WISH, padding):
        new = NewDeployment("digits", "v1.0.0", "prod-us_west", wish, cluster="eu-1", namespace=ground.namespace)
        manifest = manifest_of(new, name=object_name("digits", "prod-us_west"))
        made = await ground.kube.apply(manifest, manager=FIELD_MANAGER, dry_run=True)
        assert read_object(made, cluster="eu-1").new == new
