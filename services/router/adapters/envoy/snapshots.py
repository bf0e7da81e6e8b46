"""Snapshots out of options and routing tables."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.router.adapters.envoy import buckets, clusters, names
from services.router.adapters.envoy.extensions import resources
from services.router.adapters.envoy.listener import listener
from services.router.adapters.envoy.options import EnvoyOptions
from services.router.adapters.envoy.resources import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    SCOPES,
    SECRETS,
    ResourceSet,
    resource,
    resource_set,
)
from services.router.adapters.envoy.routes import RouteBuilder
from services.router.adapters.envoy.tls import certificate, peer_secrets
from services.router.domain.access import Callers
from services.router.domain.routing import RoutingTable


class SnapshotBuilder:
    """Builds what Envoys are told."""

    def __init__(self, options: EnvoyOptions) -> None:
        self._options = options
        self._routes = RouteBuilder(carried=options.carried, authentication=options.authentication)

    def foundation(self, batchers: Sequence[str]) -> Mapping[str, ResourceSet]:
        """Everything but the routes, by type. Raises INVALID_FIELD where an address is not host:port."""
        options = replace(self._options, batchers=tuple(batchers))
        return {
            CLUSTER: resource_set([resource(cluster.name, cluster) for cluster in clusters.clusters(options)]),
            ENDPOINTS: resource_set(
                [resource(names.BATCHER, clusters.endpoints(options.batchers))]
                if not options.carried and clusters.told_apart(options.batchers)
                else []
            ),
            LISTENER: resource_set([resource(names.LISTENER, listener(options))]),
            SCOPES: resource_set([resource(scope.name, scope) for scope in buckets.scopes()]),
            **self._secrets(),
        }

    def extensions(self, callers: Callers) -> ResourceSet:
        """The filters that know who may call."""
        return resource_set(resources(callers, self._options))

    def _secrets(self) -> Mapping[str, ResourceSet]:
        options = self._options
        secrets = [*peer_secrets(options.peer_tls_dir)] if options.peer_tls_dir else []
        if options.encrypted:
            secrets.append(certificate(options.tls_certificate, options.tls_private_key))
        return {SECRETS: resource_set([resource(secret.name, secret) for secret in secrets])} if secrets else {}

    def routes(self, table: RoutingTable) -> ResourceSet:
        """The routes of a table."""
        return resource_set(self._routes.build(table), revision=table.revision)
