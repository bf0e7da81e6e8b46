"""The bridge as a filter in Envoy's configuration."""

from collections.abc import Mapping, Sequence

from services.batcher.bridge.library import MODULE

Config = Mapping[str, object]

_TYPES = "type.googleapis.com/envoy.extensions.filters"


def listener(
    application: str, *, name: str, address: str, port: int, manager: Config, listening: Config | None = None
) -> Config:
    """A listener whose only filter is `application`; `manager` adds to Envoy's HTTP connection manager, `listening` to
    the listener."""
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
        "filter_chains": [{"filters": filters}],
        **(listening or {}),
    }


def _filter(application: str) -> Config:
    return {
        "@type": f"{_TYPES}.http.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"name": MODULE},
        "filter_name": MODULE,
        "terminal_filter": True,
        "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": application},
    }
