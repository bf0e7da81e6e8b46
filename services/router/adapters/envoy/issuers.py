"""Where the gateway fetches the public keys of issuers: a cluster each, with TLS where the address says https."""

import hashlib
from collections.abc import Sequence

from meshxds.envoy.config.cluster.v3 import cluster_pb2
from meshxds.envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2

from services.router.adapters.envoy.messages import seconds, socket_address
from services.router.adapters.envoy.tls import verified_server
from services.router.domain.issuers import Issuer

_CONNECT_TIMEOUT_S = 2.0
_DIGEST_LENGTH = 12


def cluster_name(issuer: Issuer) -> str:
    """Of the cluster that an issuer's keys come from: the same for the same place, whatever else is configured."""
    told = " ".join(map(str, (*issuer.origin, issuer.ca_file)))
    return f"keys-{hashlib.sha256(told.encode()).hexdigest()[:_DIGEST_LENGTH]}"


def issuer_clusters(issuers: Sequence[Issuer]) -> list[cluster_pb2.Cluster]:
    """The clusters of issuers whose keys are fetched; those at one place share one."""
    found = {cluster_name(one): _cluster(one) for one in issuers if one.jwks_uri}
    return list(found.values())


def _cluster(issuer: Issuer) -> cluster_pb2.Cluster:
    scheme, host, port = issuer.origin
    name = cluster_name(issuer)
    endpoint = endpoint_components_pb2.Endpoint(address=socket_address(f"{host}:{port}"))
    place = endpoint_components_pb2.LbEndpoint(endpoint=endpoint)
    cluster = cluster_pb2.Cluster(
        name=name,
        connect_timeout=seconds(_CONNECT_TIMEOUT_S),
        type=cluster_pb2.Cluster.DiscoveryType.STRICT_DNS,
        dns_lookup_family=cluster_pb2.Cluster.DnsLookupFamily.V4_PREFERRED,
        load_assignment=endpoint_pb2.ClusterLoadAssignment(
            cluster_name=name, endpoints=[endpoint_components_pb2.LocalityLbEndpoints(lb_endpoints=[place])]
        ),
    )
    if scheme == "https":
        cluster.transport_socket.CopyFrom(verified_server(host, ca_file=issuer.ca_file))
    return cluster
