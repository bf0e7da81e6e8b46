"""All that is made for a model deployment, in the order in which it is made: what replicas need before they start,
first."""

from services.common.errors import MeshError, Reason
from services.operator.domain.manifests.network import network_policy, service, service_account
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.manifests.scaling import budget, horizontal, scaled_object, vertical
from services.operator.domain.manifests.workload import deployment
from services.operator.domain.options import ClusterOptions, VersionFacts
from services.operator.domain.spec import ModelDeployment


def desired(
    wish: ModelDeployment, facts: VersionFacts, options: ClusterOptions, *, replicas: int, floor: int = 0
) -> tuple[Manifest, ...]:
    """What shall be there. `replicas`: how many the Deployment says; where something scales it, what that made of it.
    `floor`: the fewest that a forecast asks for; 0: none does.

    Raises NOT_IMPLEMENTED where the wish needs what the cluster has not.
    """
    made: list[Manifest] = [
        service_account(wish),
        network_policy(wish, options),
        service(wish),
        budget(wish),
        deployment(wish, facts, options, replicas=replicas),
    ]
    scaling = wish.autoscaling
    if scaling is None:
        return tuple(made)
    if scaling.to_zero:
        if not options.prometheus_url:
            raise MeshError(
                Reason.NOT_IMPLEMENTED,
                "spec.autoscaling.minReplicas is 0, and the operator knows no Prometheus to tell idleness by; "
                "set INFERMESH_OPERATOR_PROMETHEUS_URL and install KEDA, or set minReplicas to 1",
            )
        made.append(scaled_object(wish, scaling, options, floor))
    else:
        made.append(horizontal(wish, scaling, floor))
    if scaling.vertical:
        made.append(vertical(wish, scaling))
    return tuple(made)
