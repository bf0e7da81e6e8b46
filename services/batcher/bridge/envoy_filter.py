"""The bridge as a filter in Envoy's configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.batcher.bridge.library import MODULE
from services.common.grpc.tls import AUTHORITY, CERTIFICATE, PRIVATE_KEY

Config = Mapping[str, object]

_TYPES = "type.googleapis.com/envoy.extensions.filters"


def listener(
    application: str,
    *,
    name: str,
    address: str,
    port: int,
    manager: Config,
    listening: Config | None = None,
    certificates: Path | None = None,
) -> Config:
    """A listener whose only filter is `application`; `manager` adds to Envoy's HTTP connection manager, `listening` to
    the listener. With `certificates`, a folder, it speaks TLS with those alone who show one of its authority."""
    filters: Sequence[Config] = [
        {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"]}]},
                "http_filters": [{"name": "infermesh.batcher", "typed_config": _filter(application)}],
                "generate_request_id": False,
                **manager,
            },
        }
    ]
    return {
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [
            {"filters": filters, **({"transport_socket": _mutual(certificates)} if certificates else {})}
        ],
        **(listening or {}),
    }


def _mutual(folder: Path) -> Config:
    """The files are read once: a batcher is restarted within the life of its certificate."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [
                    {
                        "certificate_chain": {"filename": str(folder / CERTIFICATE)},
                        "private_key": {"filename": str(folder / PRIVATE_KEY)},
                    }
                ],
                "validation_context": {"trusted_ca": {"filename": str(folder / AUTHORITY)}},
            },
        },
    }


def _filter(application: str) -> Config:
    return {
        "@type": f"{_TYPES}.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"name": MODULE},
        "filter_name": MODULE,
        "terminal_filter": True,
        "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": application},
    }
