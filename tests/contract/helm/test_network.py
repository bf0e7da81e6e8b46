"""Whoever is told of an address reaches it: it is a Service of the chart, in the certificate of whoever answers there,
and allowed by the network policies of both; and nobody else does."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from tests.support.helm import (
    NAMESPACE,
    VARIANTS,
    Manifest,
    component_of,
    containers,
    of_kind,
    pod_of,
    rendered,
    workloads,
)

_FOR_WORKERS = "INFERMESH_BATCH_POD_"
_SAID_TO_OTHERS = {"INFERMESH_BATCHER_ADDRESS", "INFERMESH_ROUTER_OWN_ADDRESS", "INFERMESH_ROUTER_LIMITER_ADDRESS"}
"""What a process is told for gateways to hear; and what begins with `_FOR_WORKERS`, pods of batch jobs hear."""


class Call(NamedTuple):
    """`caller`, a component, is told of `host` and `port`."""

    caller: str
    variable: str
    host: str
    port: int


def _calls(variant: str) -> Iterator[Call]:
    for one in containers(rendered(variant)):
        for name, value in one.environment.items():
            if not name.endswith("_ADDRESS") or name in _SAID_TO_OTHERS or name.startswith(_FOR_WORKERS):
                continue
            for address in filter(None, value.split(",")):
                host, _, port = address.rpartition(":")
                yield Call(one.component, name, host, int(port))


def _service_of(manifests: Sequence[Manifest], host: str) -> Manifest:
    """The Service that a name stands for: its own, short or with its namespace, or one of a pod behind it."""
    pod, _, service = host.removesuffix(f".{NAMESPACE}.svc").partition(".")
    names = {one["metadata"]["name"]: one for one in of_kind(manifests, "Service")}
    if not service:
        assert pod in names, host
        return names[pod]
    assert names[service]["spec"]["clusterIP"] == "None", f"{host} is no name of a pod"
    [workload] = [one for one in of_kind(manifests, "StatefulSet") if one["spec"]["serviceName"] == service]
    assert int(pod.removeprefix(workload["metadata"]["name"] + "-")) < workload["spec"].get("replicas", 1)
    return names[service]


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_address_is_a_port_of_a_service(variant: str) -> None:
    manifests = rendered(variant)
    answering = {
        (component_of(one), port["name"]): port["containerPort"]
        for one in workloads(manifests)
        for container in pod_of(one)["containers"]
        for port in container.get("ports", ())
    }
    seen = set()
    for call in _calls(variant):
        if call.host == "models.example.com":
            continue  # what values say of the gateway's own certificate
        service = _service_of(manifests, call.host)
        [port] = [one for one in service["spec"]["ports"] if one["port"] == call.port]
        assert (component_of(service), port["targetPort"]) in answering, call
        seen.add((call.caller, component_of(service)))
    assert ("gateway", "router") in seen
    assert ("deployer", "triton") in seen


@pytest.mark.parametrize("variant", ["minimal", "full"])
def test_whoever_is_dialled_has_the_name_in_a_certificate(variant: str) -> None:
    manifests = rendered(variant)
    certificates = {component_of(one): one["spec"] for one in of_kind(manifests, "Certificate")}
    for call in _calls(variant):
        if call.host == "models.example.com":
            continue
        answering = component_of(_service_of(manifests, call.host))
        # Model servers speak without TLS; a batcher is asked for the name "batcher", whatever its address.
        if answering in {"triton", "batcher"} or (answering == "gateway" and variant == "minimal"):
            continue
        assert call.host in certificates[answering]["dnsNames"], call
    if "batcher" in certificates:
        assert "batcher" in certificates["batcher"]["dnsNames"]


@pytest.mark.parametrize("variant", ["minimal", "full"])
def test_each_mounts_a_certificate_that_is_issued_for_it(variant: str) -> None:
    manifests = rendered(variant)
    issued = {one["spec"]["secretName"]: one for one in of_kind(manifests, "Certificate")}
    issuers = {one["metadata"]["name"] for one in of_kind(manifests, "Issuer")}
    for one in issued.values():
        assert one["spec"]["issuerRef"]["name"] in issuers
        if not one["spec"].get("isCA"):
            assert {"server auth", "client auth"} <= set(one["spec"]["usages"])
    for workload in workloads(manifests):
        mounted = [volume for volume in pod_of(workload)["volumes"] if volume["name"] == "tls"]
        if component_of(workload) == "triton":
            assert mounted == []
            continue
        [volume] = mounted
        assert component_of(issued[volume["secret"]["secretName"]]) == component_of(workload)


def test_without_certificates_services_are_told_so() -> None:
    for one in containers(rendered("gpu")):
        told = one.environment
        assert not any(name.endswith("TLS_DIR") for name in told), one.name
        for name in [name for name in told if name.endswith("_HOST") and told[name] == "0.0.0.0"]:
            if not name.endswith("GATEWAY_HOST"):
                assert told[name.removesuffix("HOST") + "INSECURE"] == "true", one.name
    assert not of_kind(rendered("gpu"), "Certificate", "Issuer", "NetworkPolicy")


def test_certificates_from_elsewhere_have_the_same_names() -> None:
    """So that either way of having them may follow the other."""
    assert not of_kind(rendered("external-tls"), "Certificate", "Issuer")
    named = {
        volume["secret"]["secretName"]
        for one in workloads(rendered("external-tls"))
        for volume in pod_of(one)["volumes"]
        if volume["name"] == "tls"
    }
    assert named == {
        f"mesh-{one}-tls" for one in ("registry", "router", "deployer", "batch", "monitor", "gateway", "operator")
    }


class _Policies:
    """The network policies of an installation, as a cluster reads them."""

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self._policies = [one["spec"] for one in of_kind(manifests, "NetworkPolicy")]
        self._labels = {
            component_of(one): one["spec"]["template"]["metadata"]["labels"] for one in workloads(manifests)
        }

    def allow(self, caller: str, answering: str, port: int) -> bool:
        """Whether a pod of `caller` reaches `port` of a pod of `answering`."""
        sent = self._rules(caller, "egress", "to", answering, port)
        return sent and self._rules(answering, "ingress", "from", caller, port)

    def _rules(self, of: str, direction: str, peers: str, other: str, port: int) -> bool:
        for policy in self._policies:
            if not self._selects(policy["podSelector"], of):
                continue
            for rule in policy.get(direction) or ():
                if not any(one["port"] == port for one in rule["ports"]):
                    continue
                if peers not in rule or any(self._is(peer, other) for peer in rule[peers]):
                    return True
        return False

    def _is(self, peer: Manifest, component: str) -> bool:
        """Peers in other namespaces and addresses are nobody of the mesh."""
        return set(peer) == {"podSelector"} and self._selects(peer["podSelector"], component)

    def _selects(self, selector: Manifest, component: str) -> bool:
        labels = self._labels[component]
        chosen = all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))
        return chosen and selector.get("matchLabels", {}).items() <= labels.items()


@pytest.mark.parametrize("variant", ["minimal", "full", "external-tls"])
def test_policies_let_through_those_who_are_told_of_an_address_and_nobody_else(variant: str) -> None:
    manifests = rendered(variant)
    policies = _Policies(manifests)
    listening = {
        component_of(one): {
            port["name"]: port["containerPort"]
            for container in pod_of(one)["containers"]
            for port in container.get("ports", ())
        }
        for one in workloads(manifests)
    }
    wanted = set()
    for call in _calls(variant):
        if call.host == "models.example.com":
            wanted.add((call.caller, "gateway", 8080))  # some load balancers lead straight back
            continue
        service = _service_of(manifests, call.host)
        [port] = [one for one in service["spec"]["ports"] if one["port"] == call.port]
        answering = component_of(service)
        wanted.add((call.caller, answering, listening[answering][port["targetPort"]]))
    # The router programs the gateway to call each service; batchers hear of model servers from the deployer.
    told = {"registry": 8101, "router": 8102, "deployer": 8103, "batch": 8104, "monitor": 8105, "limiter": 8106}
    wanted |= {("gateway", name, port) for name, port in told.items() if name in listening}
    carrier = "batcher" if "batcher" in listening else "gateway"
    wanted |= {(carrier, "triton", 8000), (carrier, "triton", 8001)}
    if carrier == "batcher":
        wanted.add(("gateway", "batcher", 8110))
    for caller, answering, port in sorted(wanted):
        assert policies.allow(caller, answering, port), f"{caller} does not reach {answering}:{port}"
    # Ports of TCP that are open to anybody are the gateway's alone; for the others whoever is not wanted is kept out.
    for caller in listening:
        for answering, ports in listening.items():
            if answering == "gateway" and variant != "full":
                continue
            for port in ports.values():
                if (caller, answering, port) not in wanted:
                    assert not policies.allow(caller, answering, port), f"{caller} reaches {answering}:{port}"


@pytest.mark.parametrize("variant", ["minimal", "full", "external-tls"])
def test_whatever_has_no_policy_of_its_own_reaches_nothing(variant: str) -> None:
    manifests = rendered(variant)
    [deny] = [one for one in of_kind(manifests, "NetworkPolicy") if component_of(one) == "default-deny"]
    assert deny["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & deny["spec"].keys()
    for one in workloads(manifests):
        assert (
            deny["spec"]["podSelector"]["matchLabels"].items() <= one["spec"]["template"]["metadata"]["labels"].items()
        )
    assert all(one["metadata"]["namespace"] == NAMESPACE for one in of_kind(manifests, "NetworkPolicy"))


def test_servers_of_teams_are_reached_by_whoever_asks_them() -> None:
    """External backends: the deployer proves them, batchers ask them, and nobody else is let out to them."""
    ports = {
        component_of(one): {port["port"] for rule in one["spec"].get("egress") or () for port in rule["ports"]}
        for one in of_kind(rendered("full"), "NetworkPolicy")
    }
    assert {component for component, open_ones in ports.items() if 8500 in open_ones} == {"deployer", "batcher"}


def test_workers_of_batch_jobs_reach_whom_they_are_told_of_and_nobody_else_of_the_mesh() -> None:
    workers = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "infermesh-batch"}}}

    def let_in(variant: str) -> set[tuple[str, int]]:
        return {
            (component_of(one), port["port"])
            for one in of_kind(rendered(variant), "NetworkPolicy")
            for rule in one["spec"].get("ingress") or ()
            if workers in rule.get("from", ())
            for port in rule["ports"]
        }

    [batch] = [one for one in containers(rendered("full")) if one.component == "batch"]
    told = {name: value for name, value in batch.environment.items() if name.startswith(_FOR_WORKERS)}
    assert told["INFERMESH_BATCH_POD_BATCHER_ADDRESS"] == "models.example.com:443"
    reached = {("gateway", 8080)}
    for name in ("BATCH", "REGISTRY"):
        host, _, port = told[f"{_FOR_WORKERS}{name}_ADDRESS"].rpartition(":")
        assert host.endswith(f".{NAMESPACE}.svc"), "a name that leads there from another namespace"
        certificates = [one["spec"] for one in of_kind(rendered("full"), "Certificate")]
        assert any(host in one.get("dnsNames", ()) for one in certificates)
        reached.add((component_of(_service_of(rendered("full"), host)), int(port)))
    assert let_in("full") == reached
    assert let_in("minimal") == set()


@pytest.mark.parametrize("variant", ["minimal", "full", "external-tls"])
def test_replicas_of_teams_reach_the_gateway_and_nothing_else_of_the_mesh(variant: str) -> None:
    manifests = rendered(variant)
    [operator] = [one for one in containers(manifests) if one.component == "operator"]
    host, _, port = operator.environment["INFERMESH_OPERATOR_GATEWAY_ADDRESS_IN_PODS"].rpartition(":")
    if host != "models.example.com":
        assert host.endswith(f".{NAMESPACE}.svc"), "a name that leads there from another namespace"
        [exposed] = [one for one in _service_of(manifests, host)["spec"]["ports"] if one["port"] == int(port)]
        assert exposed["targetPort"] == "gateway"
    [gateway] = [
        port["containerPort"]
        for one in containers(manifests)
        if one.component == "gateway"
        for port in one.spec.get("ports", ())
        if port["name"] == "gateway"
    ]
    assert operator.environment["INFERMESH_OPERATOR_GATEWAY_PORT"] == str(gateway)
    elsewhere = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "infermesh-model"}}}
    open_to_replicas = {
        (component_of(one), port["port"])
        for one in of_kind(manifests, "NetworkPolicy")
        for rule in one["spec"].get("ingress") or ()
        if elsewhere in rule.get("from", [elsewhere])
        for port in rule["ports"]
    }
    assert open_to_replicas == {("gateway", gateway)}
