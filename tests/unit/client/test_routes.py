"""Conditions, shadows, stages and limits as people type them, and as they read them."""

import pytest
import typer
from infermesh.client.cli.rollout_options import criteria, parse_metric, parse_stages
from infermesh.client.cli.routes import condition_text, parse_condition, parse_shadow, shadow_text


@pytest.mark.parametrize(
    ("text", "attribute", "values", "match", "version"),
    [
        ("region=eu:v2.0.0", "region", ["eu"], "", "v2.0.0"),
        ("user_id=42, 43:2.0.0", "user_id", ["42", "43"], "", "v2.0.0"),
        ("cohort=beta*:v2.0.0", "cohort", ["beta"], "prefix", "v2.0.0"),
        ("team=research:v2.0.0-rc.1", "team", ["research"], "", "v2.0.0-rc.1"),
        ("header:X-Plan=a:b:v2.0.0", "header:x-plan", ["a:b"], "", "v2.0.0"),
    ],
)
def test_conditions(text: str, attribute: str, values: list[str], match: str, version: str) -> None:
    made = parse_condition(text)
    assert (made.attribute, list(made.values), made.match, made.version) == (attribute, values, match, version)


@pytest.mark.parametrize("text", ["", "region", "region=eu", "region=:v2.0.0", "planet=mars:v1.0.0", "=eu:v1.0.0"])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_condition(text)
    assert caught.value.param_hint == "--when"


@pytest.mark.parametrize("text", ["region=eu*,us:v1.0.0", "region=*:v1.0.0", "region=eu,,us:v1.0.0"])
def test_values_are_all_prefixes_or_none_and_never_empty(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="must not be empty"):
        parse_condition(text)


@pytest.mark.parametrize(
    ("text", "version", "percent", "method"),
    [
        ("v2.0.0=10%", "v2.0.0", 10, ""),
        ("2.0.0=10", "v2.0.0", 10, ""),
        ("v2.0.0", "v2.0.0", 100, ""),
        ("v2.0.0=5%:label", "v2.0.0", 5, "label"),
        ("v2.0.0:top_k=3", "v2.0.0", 100, "top_k"),
    ],
)
def test_shadows(text: str, version: str, percent: int, method: str) -> None:
    made = parse_shadow(text)
    assert (made.version, made.percent, made.comparison.method) == (version, percent, method)
    assert made.HasField("comparison") == bool(method)


def test_tolerances_are_absolute_then_relative_and_each_may_be_left_out() -> None:
    both = parse_shadow("v2.0.0:tolerance=1e-6/0.01").comparison
    assert (both.absolute_tolerance, both.relative_tolerance) == (1e-6, 0.01)
    relative = parse_shadow("v2.0.0:tolerance=/0.01").comparison
    assert not relative.HasField("absolute_tolerance")
    assert relative.relative_tolerance == 0.01
    assert not parse_shadow("v2.0.0:tolerance").comparison.HasField("relative_tolerance")


@pytest.mark.parametrize(
    "text", ["", "=10%", "v2.0.0=0%", "v2.0.0=10%:guess", "v2.0.0:top_k=0", "v2.0.0:label=1", "v2.0.0:tolerance=big"]
)
def test_what_is_no_shadow(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_shadow(text)
    assert caught.value.param_hint == "--shadow"


def test_people_read_what_they_typed() -> None:
    assert condition_text(parse_condition("region=eu*:v2.0.0")) == "region=eu* → v2.0.0"
    assert shadow_text(parse_shadow("v2.0.0:label")) == "v2.0.0 100 % compared by label"


def test_stages_end_at_all_and_may_say_so() -> None:
    made = parse_stages(["5%/90s", "50%", "100%/0"])
    assert [(stage.percent, stage.duration_minutes) for stage in made] == [(5, 1.5), (50, 0), (100, 0)]
    assert [stage.percent for stage in parse_stages(["20%/1d"])] == [20, 100]
    assert parse_stages([]) == []


def test_no_limit_is_no_criteria_and_a_zero_is_one() -> None:
    assert criteria(shares={"error_rate_max": ""}) is None
    made = criteria(shares={"error_rate_max": "0"})
    assert made is not None
    assert made.HasField("error_rate_max")
    assert not made.HasField("latency_p95_max_ms")


@pytest.mark.parametrize("text", ["", "ctr", "ctr:", "ctr:min", "ctr:min=low", "ctr:decrease_max=5", ":min=1"])
def test_what_is_no_limit_of_a_metric(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        parse_metric(text)
    assert caught.value.param_hint == "--metric"
