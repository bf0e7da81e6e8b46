"""The compiled serving table: names, versions, what survives a change."""

from collections.abc import Mapping

import pytest

from services.batcher.domain.recording import Recording, Recordings
from services.batcher.domain.serving import ServedModel, ServedVersion, ServingTable, ShadowTarget
from services.batcher.faces.caller import INSIDE
from services.batcher.faces.catalog import Aftermath, Catalog
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec


def version(number: str, width: int = 4) -> ServedVersion:
    return ServedVersion("m", number, "main", ModelSchema((TensorSpec("x", DataType.FP32, (width,)),), ()))


def table(
    *versions: ServedVersion,
    revision: int = 1,
    default: str = "v1.0.0",
    shadows: tuple[ShadowTarget, ...] = (),
    aliases: Mapping[str, str] | None = None,
    log_labels: bool = False,
) -> ServingTable:
    served = {item.version: item for item in versions}
    model = ServedModel("m", default, served, shadows=shadows, aliases=aliases or {}, log_labels=log_labels)
    return ServingTable(revision, {"m": model})


def test_a_version_is_found_with_and_without_its_v_and_by_default() -> None:
    catalog = Catalog()
    catalog.apply(table(version("v1.0.0"), version("v2.0.0")))
    model = catalog.model("m", INSIDE)
    assert catalog.ready
    assert catalog.version(model, "2.0.0") is catalog.version(model, "v2.0.0")
    assert catalog.version(model, "").served.version == "v1.0.0"


@pytest.mark.parametrize(
    ("wanted", "reason", "words"),
    [
        ("9.0.0", Reason.VERSION_NOT_SERVED, ["v9.0.0", "v1.0.0"]),
        ("latest", Reason.VERSION_NOT_SERVED, ["'latest'", "v1.0.0"]),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(wanted: str, reason: Reason, words: list[str]) -> None:
    catalog = Catalog()
    catalog.apply(table(version("v1.0.0")))
    with pytest.raises(MeshError) as caught:
        catalog.version(catalog.model("m", INSIDE), wanted)
    assert caught.value.reason is reason
    assert all(word in caught.value.message for word in words)


def test_a_model_without_a_served_default_says_so() -> None:
    catalog = Catalog()
    catalog.apply(table(version("v1.0.0"), default="v3.0.0"))
    with pytest.raises(MeshError, match=r"v3\.0\.0 is not"):
        catalog.version(catalog.model("m", INSIDE), "")


def test_before_the_first_table_nothing_is_ready() -> None:
    assert not Catalog().ready


def test_an_empty_table_is_a_table() -> None:
    catalog = Catalog()
    catalog.apply(ServingTable(4, {}))
    assert catalog.ready
    with pytest.raises(MeshError, match="served are: none"):
        catalog.model("m", INSIDE)


def test_unchanged_versions_keep_their_plans_and_no_count_is_ever_lost() -> None:
    catalog = Catalog()
    catalog.apply(table(version("v1.0.0"), version("v2.0.0")))
    old = catalog.version(catalog.model("m", INSIDE), "v1.0.0")
    changed = catalog.version(catalog.model("m", INSIDE), "v2.0.0")
    changed.stats.ok = 5
    catalog.apply(table(version("v1.0.0"), version("v2.0.0", width=8), revision=2))
    assert catalog.version(catalog.model("m", INSIDE), "v1.0.0") is old
    new = catalog.version(catalog.model("m", INSIDE), "v2.0.0")
    assert new is not changed
    assert new.stats.ok == 5
    catalog.apply(ServingTable(3, {}))
    assert {(stats.version, stats.ok) for stats, _ in catalog.stats()} >= {("v2.0.0", 5)}


def test_versions_and_models_that_went_without_a_request_leave_nothing() -> None:
    catalog = Catalog()
    for number in range(1, 50):
        name = f"v{number}.0.0"
        catalog.apply(table(version(name), revision=number, default=name))
        if number == 7:
            catalog.model("m", INSIDE).versions[name].stats.answered(None)
    counted = {(stats.model_name, stats.version) for stats, _ in catalog.stats()}
    assert counted == {("", ""), ("m", ""), ("m", "v7.0.0"), ("m", "v49.0.0")}
    catalog.apply(ServingTable(50, {}))
    assert {stats.version for stats, _ in catalog.stats() if stats.model_name} == {"v7.0.0"}
    catalog.apply(table(version("v7.0.0"), revision=51, default="v7.0.0"))
    assert catalog.model("m", INSIDE).versions["v7.0.0"].stats.ok == 1


def test_a_table_that_the_engine_refuses_changes_nothing() -> None:
    def refuse(new: ServingTable) -> None:
        if new.revision == 2:
            raise ValueError("no")

    catalog = Catalog(on_apply=refuse)
    catalog.apply(table(version("v1.0.0")))
    with pytest.raises(ValueError, match="no"):
        catalog.apply(ServingTable(2, {}))
    assert catalog.names(INSIDE) == ["m"]
    assert catalog.table.revision == 1


def test_an_alias_names_its_version_and_never_hides_one() -> None:
    catalog = Catalog()
    aliases = {"champion": "v2.0.0", "1.0.0": "v2.0.0", "gone": "v9.0.0"}
    catalog.apply(table(version("v1.0.0"), version("v2.0.0"), aliases=aliases))
    model = catalog.model("m", INSIDE)
    assert catalog.version(model, "champion") is catalog.version(model, "v2.0.0")
    assert catalog.version(model, "1.0.0").served.version == "v1.0.0"
    with pytest.raises(
        MeshError, match=r"v9\.1\.0 .*served are: v1\.0\.0, v2\.0\.0; aliases are: .*champion \(v2\.0\.0\)"
    ):
        catalog.version(model, "9.1.0")
    with pytest.raises(MeshError, match="'gone' of m is not served") as caught:
        catalog.version(model, "gone")
    assert caught.value.reason is Reason.VERSION_NOT_SERVED
    assert "v9.0.0" not in caught.value.message
    assert len({id(plan) for plan in model.versions.values()}) == 2


def test_an_alias_that_moves_keeps_the_plans() -> None:
    catalog = Catalog()
    catalog.apply(table(version("v1.0.0"), version("v2.0.0"), aliases={"champion": "v1.0.0"}))
    old = catalog.version(catalog.model("m", INSIDE), "champion")
    catalog.apply(table(version("v1.0.0"), version("v2.0.0"), aliases={"champion": "v2.0.0"}, revision=2))
    assert catalog.version(catalog.model("m", INSIDE), "v1.0.0") is old
    assert catalog.version(catalog.model("m", INSIDE), "champion").served.version == "v2.0.0"


def test_what_is_done_with_answers_follows_the_model_while_versions_keep_their_plans() -> None:
    catalog = Catalog()
    half, gone = ShadowTarget("v2.0.0", 50), ShadowTarget("v7.0.0", 1)
    catalog.apply(table(version("v1.0.0"), version("v2.0.0")))
    plans = [catalog.version(catalog.model("m", INSIDE), name) for name in ("v1.0.0", "v2.0.0")]
    assert [plan.after for plan in plans] == [None, None]
    catalog.apply(table(version("v1.0.0"), version("v2.0.0"), shadows=(half, gone), revision=2))
    assert [plan.after for plan in plans] == [Aftermath((half,)), None], "a version gets no copies of its own answers"
    catalog.apply(table(version("v1.0.0"), version("v2.0.0"), log_labels=True, revision=3))
    assert [plan.after for plan in plans] == [Aftermath((), True)] * 2
    catalog.apply(table(version("v1.0.0"), version("v2.0.0"), revision=4))
    assert [plan.after for plan in plans] == [None, None]


def test_logging_policies_are_followed_when_they_or_the_versions_change() -> None:
    catalog, models, own = Catalog(), Recording(1.0, input_hash=True), Recording(1.0, output=True)
    catalog.record(Recordings({("m", ""): models, ("other", ""): own}))
    catalog.apply(table(version("v1.0.0"), version("v2.0.0")))
    plans = [catalog.version(catalog.model("m", INSIDE), name) for name in ("v1.0.0", "v2.0.0")]
    assert [plan.after for plan in plans] == [Aftermath((), False, models)] * 2
    catalog.record(Recordings({("m", ""): models, ("m", "v2.0.0"): own}))
    assert [plan.after for plan in plans] == [Aftermath((), False, models), Aftermath((), False, own)]
    catalog.apply(table(version("v1.0.0"), version("v2.0.0"), log_labels=True, revision=2))
    assert [plan.after for plan in plans] == [Aftermath((), True, models), Aftermath((), True, own)]
    catalog.record(Recordings({}))
    assert [plan.after for plan in plans] == [Aftermath((), True)] * 2
