"""Keeps the chart's schema at what services can be told: `python -m tools.chart_schema`, which `make chart` does.

`settings` of a service in the chart's values may have every field of its settings.py but those that the chart sets
itself and those that are secrets. Their names, kinds and bounds stand in values.schema.json under `$defs`, so that helm
refuses what the service would; the rest of that file is written by hand.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from pydantic_settings import BaseSettings

from services.batch.settings import BatchSettings
from services.batcher.settings import BatcherSettings
from services.deployer.settings import DeployerSettings
from services.gateway.settings import GatewaySettings
from services.limiter.settings import LimiterSettings
from services.monitor.settings import MonitorSettings
from services.operator.settings import OperatorSettings
from services.registry.settings import RegistrySettings
from services.router.settings import RouterSettings

CHART = Path(__file__).resolve().parents[1] / "deploy" / "helm" / "infermesh"
SCHEMA = CHART / "values.schema.json"

SETTINGS: Mapping[str, type[BaseSettings] | type[GatewaySettings]] = {
    "batch": BatchSettings,
    "batcher": BatcherSettings,
    "deployer": DeployerSettings,
    "gateway": GatewaySettings,
    "limiter": LimiterSettings,
    "monitor": MonitorSettings,
    "operator": OperatorSettings,
    "registry": RegistrySettings,
    "router": RouterSettings,
}
"""Whoever the chart starts, by the word in INFERMESH_<SERVICE>_<FIELD>."""

_OF_THE_CHART = {
    "host",
    "port",
    "metrics_port",
    "instance",
    "log_level",
    "tls_dir",
    "insecure",
    "otlp_endpoint",
    "data_dir",
    "database_url",
}
"""What the chart sets, of any service; and every address of another one."""
_OF_THE_CHART_TOO: Mapping[str, set[str]] = {
    "batch": {
        "authentication",
        "batcher_tls",
        "cluster_owner",
        "clusters",
        "pod_batcher_tls",
        "pod_image",
        "pod_image_pull_secrets",
        "pod_tls_secret",
    },
    "batcher": {
        "address",
        "external_ca",
        "external_credentials",
        "feature_redis_url",
        "gateway_admin",
        "gateway_config",
        "gateway_threads",
        "redis_url",
    },
    "deployer": {
        "environments",
        "clusters",
        "external_ca",
        "external_credentials",
        "framework_locks",
        "gpus",
        "model_repository",
        "native_backends",
        "runner",
        "serving_python",
    },
    "gateway": {"layout"},
    "limiter": {"redis_url"},
    "monitor": {"host_name"},
    "operator": {
        "fetch_image",
        "gateway_address_in_pods",
        "gateway_port",
        "gateway_tls",
        "image_pull_secrets",
        "kubeconfig",
        "lease_name",
        "lease_namespace",
        "mesh_namespace",
        "native_backends",
        "server_image",
    },
    "registry": {"artifacts_uri", "artifact_key_file", "signing_key", "signing_key_path"},
    "router": {
        "authentication",
        "gateway_host",
        "gateway_port",
        "gateway_tls_dir",
        "oidc_issuers",
        "tls_certificate",
        "tls_private_key",
    },
}
_KINDS: Mapping[object, str] = {str: "string", int: "integer", float: "number", Path: "string"}
_KEPT = ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum")


def told_by_the_chart(service: str, field: str) -> bool:
    """Whether the chart itself says what this is."""
    own = _OF_THE_CHART | _OF_THE_CHART_TOO.get(service, set())
    return field in own or field.endswith("_address")


def settings_of(service: str) -> Mapping[str, Mapping[str, object]]:
    """Every field of a service's settings, with its kind and bounds as JSON Schema has them."""
    known = SETTINGS[service]
    if issubclass(known, GatewaySettings):
        return {field.name: {"type": _KINDS[field.type]} for field in fields(known)}
    described = known.model_json_schema()["properties"]
    return {name: _plain(schema) for name, schema in described.items()}


def definitions() -> Mapping[str, object]:
    """The parts of the schema that are made here, by name."""
    made: dict[str, object] = {}
    for service in SETTINGS:
        allowed = {
            name: schema
            for name, schema in sorted(settings_of(service).items())
            if not told_by_the_chart(service, name) and schema.get("format") != "password"
        }
        made[f"settings.{service}"] = {
            "type": "object",
            "additionalProperties": False,
            "description": f"Fields of services/{service}/settings.py that the chart does not set itself.",
            "properties": allowed,
        }
    return made


def _plain(schema: Mapping[str, object]) -> Mapping[str, object]:
    """A field's schema without titles, defaults and references, which helm's reader would show in its errors."""
    choices = schema.get("anyOf")
    if isinstance(choices, list):
        (schema,) = [one for one in choices if one.get("type") != "null"]
    kept = {key: value for key, value in schema.items() if key in _KEPT}
    if "const" in schema:
        kept = {"enum": [schema["const"]]}
    if schema.get("format") == "password":
        kept["format"] = "password"
    if schema.get("type") == "object":
        kept["additionalProperties"] = schema.get("additionalProperties", True)
    return kept


def rendered(schema: str) -> str:
    """The schema with what is made here in its place."""
    read = json.loads(schema)
    by_hand = {name: value for name, value in read["$defs"].items() if not name.startswith("settings.")}
    return json.dumps({**read, "$defs": {**by_hand, **definitions()}}, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes the file anew, or says that it is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where it would")
    before = SCHEMA.read_text()
    after = rendered(before)
    if parser.parse_args().check and before != after:
        raise SystemExit(f"{SCHEMA} is not what services can be told: run `make chart`")
    SCHEMA.write_text(after)


if __name__ == "__main__":
    main()
