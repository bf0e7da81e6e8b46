"""Conditions and shadows as people type them: `region=eu:v2.0.0`, `v2.0.0=10%`."""

import re
from collections.abc import Sequence

import typer
from infermesh.client.cli.quantities import parse_number, parse_percent
from infermesh.common.v1 import serving_pb2
from infermesh.router.v1 import traffic_rule_pb2

_VERSION = r"[A-Za-z0-9][^\s=:,]*"
_CONDITION = re.compile(rf"(header:[^=\s]+|[a-z_]+)=(.+):({_VERSION})")
_SHADOW = re.compile(rf"({_VERSION})(?:=([^:]+))?(?::(.+))?")
_ATTRIBUTES = ("user_id", "region", "cohort", "team")


def parse_condition(text: str, option: str = "--when") -> traffic_rule_pb2.RouteCondition:
    """ATTRIBUTE=VALUE[,VALUE…]:VERSION; values that end in "*" match what begins so. Raises typer.BadParameter."""
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no condition; say ATTRIBUTE=VALUE:VERSION, for instance region=eu:v2.0.0 or "
            "header:x-plan=gold,silver:v2.0.0",
            param_hint=option,
        )
    attribute, values = match[1].lower(), [value.strip() for value in match[2].split(",")]
    if attribute not in _ATTRIBUTES and not attribute.startswith("header:"):
        known = ", ".join(_ATTRIBUTES)
        raise typer.BadParameter(
            f"{attribute!r} is nothing to tell requests by; say {known} or header:NAME", param_hint=option
        )
    prefixes = [value.endswith("*") for value in values]
    if not all(value.rstrip("*") for value in values) or (any(prefixes) and not all(prefixes)):
        raise typer.BadParameter(
            f"the values of {text!r} must not be empty, and either all of them end in * (begins with) or none does",
            param_hint=option,
        )
    return traffic_rule_pb2.RouteCondition(
        attribute=attribute,
        values=[value.removesuffix("*") for value in values],
        match="prefix" if all(prefixes) else "",
        version=versioned(match[3]),
    )


def parse_shadow(text: str, option: str = "--shadow") -> traffic_rule_pb2.Shadow:
    """VERSION[=PERCENT][:COMPARISON]. Raises typer.BadParameter.

    The comparison is `label`, `top_k[=K]` or `tolerance[=ABSOLUTE[/RELATIVE]]`.
    """
    match = _SHADOW.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(
            f"{text!r} is no shadow; say VERSION=PERCENT, for instance v2.0.0=10%", param_hint=option
        )
    percent = parse_percent(match[2], option, least=1) if match[2] else 100
    comparison = _comparison(match[3], option) if match[3] else None
    return traffic_rule_pb2.Shadow(version=versioned(match[1]), percent=percent, comparison=comparison)


def _comparison(text: str, option: str) -> serving_pb2.ShadowComparison:
    method, _, given = text.partition("=")
    if method == "label" and not given:
        return serving_pb2.ShadowComparison(method=method)
    if method == "top_k":
        if given and not (given.isdecimal() and 1 <= int(given) <= 100):
            raise typer.BadParameter(f"top_k is {given!r}; say 1 to 100, for instance top_k=3", param_hint=option)
        return serving_pb2.ShadowComparison(method=method, top_k=int(given or 0))
    if method == "tolerance":
        absolute, _, relative = given.partition("/")
        numbers = [
            parse_number(one, option, what="a tolerance", example="tolerance=0.001 or tolerance=1e-6/0.01")
            if one
            else None
            for one in (absolute, relative)
        ]
        return serving_pb2.ShadowComparison(method=method, absolute_tolerance=numbers[0], relative_tolerance=numbers[1])
    raise typer.BadParameter(
        f"{text!r} is no way to compare answers; say label, top_k=5 or tolerance=0.001", param_hint=option
    )


def versioned(text: str) -> str:
    """A version with its leading v, whichever way it was typed; an alias as it is."""
    return f"v{text}" if text[:1].isdecimal() else text


def condition_text(condition: traffic_rule_pb2.RouteCondition) -> str:
    """A condition for people, as it could be typed."""
    star = "*" if condition.match == "prefix" else ""
    return f"{condition.attribute}={','.join(value + star for value in condition.values)} → {condition.version}"


def shadow_text(shadow: traffic_rule_pb2.Shadow) -> str:
    """A shadow for people."""
    method = shadow.comparison.method
    how = f" compared by {method}" if method else ""
    return f"{shadow.version} {shadow.percent or 100} %{how}"


def split_text(split: "dict[str, int]", order: Sequence[str] = ()) -> str:
    """Shares for people: "v1.0.0 90 %, v1.1.0 10 %"."""
    versions = list(order) or sorted(split)
    return ", ".join(f"{version} {split[version]} %" for version in versions if version in split)
