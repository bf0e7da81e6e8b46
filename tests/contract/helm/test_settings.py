"""What the chart tells services is what they can be told: names and values, held to their own settings classes."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.batch.settings import BatchSettings
from services.common.settings import load as load_settings
from services.gateway.settings import GatewaySettings, load
from tests.support.helm import CHART, ROOT, VARIANTS, Container, containers, rendered
from tools.chart_schema import SCHEMA, SETTINGS, settings_of, told_by_the_chart
from tools.chart_schema import rendered as schema_rendered

_VARIABLE = re.compile(r"INFERMESH_([A-Z]+)_([A-Z0-9_]+)")
_SERVICES = {path.parent.name for path in (ROOT / "services").glob("*/settings.py")} - {"supervisor", "common"}
_UNTOLD = {"operator"} - _SERVICES
"""Whoever is started by the chart and has no settings here to hold it to."""


def _told(one: Container) -> Mapping[str, Mapping[str, str]]:
    """What a container tells whom, by field."""
    told: dict[str, dict[str, str]] = {}
    for name, value in one.environment.items():
        if name.startswith("INFERMESH_"):
            match = _VARIABLE.fullmatch(name)
            assert match, f"{one.name}: {name} is no setting"
            told.setdefault(match[1].lower(), {})[match[2].lower()] = value
    return told


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_setting_that_the_chart_names_there_is(variant: str) -> None:
    seen = set()
    for one in containers(rendered(variant)):
        for service, told in _told(one).items():
            if service in _UNTOLD:
                continue
            assert set(told) <= set(settings_of(service)), f"{one.name} names settings that {service} does not have"
            seen.add(service)
    assert {"registry", "router", "deployer", "batch", "monitor", "batcher", "gateway"} <= seen


@pytest.mark.parametrize("variant", VARIANTS)
def test_services_start_with_what_the_chart_tells_them(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in containers(rendered(variant)):
        for service, told in _told(one).items():
            if service in _UNTOLD:
                continue
            variables = {f"INFERMESH_{service}_{field}".upper(): value for field, value in told.items()}
            known = SETTINGS[service]
            if issubclass(known, GatewaySettings):
                assert load(variables).router_address, one.name
                continue
            with monkeypatch.context() as patched:
                for name, value in variables.items():
                    patched.setenv(name, value)
                made = known()
            for field, value in told.items():
                # It arrives as what was meant: 1000000 is no 1e+06, and true is no text.
                assert _plain(getattr(made, field)) in (value, _read(value)), f"{one.name}: {field}"


def test_every_service_with_settings_is_held_to_them() -> None:
    assert set(SETTINGS) == _SERVICES, "add it to SETTINGS of tools/chart_schema.py"


def test_a_setting_that_is_none_is_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert "jobs_max" in settings_of("batch")
    assert "jobs_maximum" not in settings_of("batch")
    monkeypatch.setenv("INFERMESH_BATCH_JOBS_MAX", "1000")
    with pytest.raises(SystemExit):
        load_settings(BatchSettings)
    assert "INFERMESH_BATCH_JOBS_MAX is '1000'" in capsys.readouterr().err


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_container_is_told_of_the_one_that_it_is(variant: str) -> None:
    """A variable of somebody else is read by nobody. A gateway may have a batcher in it; the keeper's are gateway's."""
    for one in containers(rendered(variant)):
        expected = {"gateway/gateway": "batcher", "gateway/keeper": "gateway"}.get(one.name, one.component)
        assert set(_told(one)) <= {expected}, one.name


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_values_may_set_the_chart_does_not_set_itself(variant: str) -> None:
    """Else a variable would stand twice, and the last one wins."""
    for one in containers(rendered(variant)):
        names = [variable["name"] for variable in one.spec.get("env", ())]
        assert len(names) == len(set(names)), one.name


def test_the_schema_knows_what_services_can_be_told() -> None:
    assert schema_rendered(SCHEMA.read_text()) == SCHEMA.read_text(), "run `make chart`"
    definitions = json.loads(SCHEMA.read_text())["$defs"]
    for service in SETTINGS:
        allowed = definitions[f"settings.{service}"]["properties"]
        assert not any(told_by_the_chart(service, field) for field in allowed)
        assert not any(schema.get("format") == "password" for schema in allowed.values())


def test_the_chart_says_all_that_its_schema_leaves_to_it() -> None:
    """What values may not set must be set by the chart in some installation, or be right as it is."""
    told: dict[str, set[str]] = {}
    for variant in VARIANTS:
        for one in containers(rendered(variant)):
            for service, fields in _told(one).items():
                told.setdefault(service, set()).update(fields)
    as_it_is = {
        # On loopback, beside its gateway.
        ("gateway", "host"),
        # In the image, where the defaults find them, or by its environment.
        ("deployer", "runner"),
        ("deployer", "framework_locks"),
        ("deployer", "serving_python"),
        # Its value out of a Secret, rather than a path.
        ("registry", "signing_key_path"),
        # Who runs in the cluster has its credentials.
        ("operator", "kubeconfig"),
        # Of the one installation without certificates, which has neither.
        ("limiter", "insecure"),
        ("operator", "insecure"),
    }
    for service in SETTINGS:
        own = {field for field in settings_of(service) if told_by_the_chart(service, field)}
        missing = {(service, field) for field in own - told.get(service, set())} - as_it_is
        assert missing == set()


def test_settings_are_documented_where_values_are() -> None:
    """Each service's `settings` is there, empty, for people to find."""
    values = (CHART / "values.yaml").read_text()
    assert values.count("  settings: {}") == len({*SETTINGS, "operator"})


def _read(value: str) -> object:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _plain(value: object) -> object:
    """A setting as JSON would have it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value) if isinstance(value, Path) else value
