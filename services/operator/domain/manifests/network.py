"""How replicas are reached, by whom, and as whom they run."""

from collections.abc import Mapping

from services.operator.domain.manifests.parts import Manifest, shared_metadata, workload_metadata
from services.operator.domain.names import DEPLOYMENT, GRPC_PORT, HTTP_PORT, METRICS_PORT, selector
from services.operator.domain.options import ClusterOptions
from services.operator.domain.spec import ModelDeployment

_DNS = 53


def service(wish: ModelDeployment) -> Manifest:
    """The Service of the version that is wished. Its endpoints are the replicas that are ready; who routes follows its
    EndpointSlices, which have its labels, and talks to pods directly."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": workload_metadata(wish),
        "spec": {
            # No address of its own: batchers choose among replicas by themselves.
            "clusterIP": "None",
            "selector": dict(selector(wish.name, wish.version)),
            "ports": [
                {"name": "http", "port": HTTP_PORT, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"},
                {
                    "name": "grpc",
                    "port": GRPC_PORT,
                    "targetPort": "grpc",
                    "protocol": "TCP",
                    "appProtocol": "kubernetes.io/h2c",
                },
                {"name": "metrics", "port": METRICS_PORT, "targetPort": "metrics", "protocol": "TCP"},
            ],
        },
    }


def service_account(wish: ModelDeployment) -> Manifest:
    """Whom pods run as: somebody without any right and without a token."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": shared_metadata(wish),
        "automountServiceAccountToken": False,
    }


def network_policy(wish: ModelDeployment, options: ClusterOptions) -> Manifest:
    """The mesh asks replicas, monitoring collects their metrics, and they reach names, the gateway, and what is
    listed: nothing else, in either direction."""
    # Some networks ask before a Service's address has become a pod's, and some after.
    ports = {options.gateway_port, int(options.gateway_address.rpartition(":")[2])}
    egress: list[Mapping[str, object]] = [
        {
            "to": [_namespace("kube-system")],
            "ports": [{"port": _DNS, "protocol": "UDP"}, {"port": _DNS, "protocol": "TCP"}],
        },
        {
            "to": [_namespace(options.mesh_namespace)],
            "ports": [{"port": port, "protocol": "TCP"} for port in sorted(ports)],
        },
    ]
    if options.egress_cidrs:
        egress.append({"to": [{"ipBlock": {"cidr": cidr}} for cidr in options.egress_cidrs]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": shared_metadata(wish),
        "spec": {
            "podSelector": {"matchLabels": {DEPLOYMENT: wish.name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [_namespace(options.mesh_namespace)],
                    "ports": [{"port": "http", "protocol": "TCP"}, {"port": "grpc", "protocol": "TCP"}],
                },
                {
                    "from": [_namespace(options.monitoring_namespace)],
                    "ports": [{"port": "metrics", "protocol": "TCP"}],
                },
            ],
            "egress": egress,
        },
    }


def _namespace(name: str) -> Mapping[str, object]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
