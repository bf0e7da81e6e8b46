"""Finding, changing, pointing: what the engines add to what is kept."""

from dataclasses import dataclass, replace

import pytest
from infermesh.registry.v1 import model_version_pb2

from services.common.errors import MeshError, Reason
from services.registry.convert.versions import model_to_proto, version_to_proto
from services.registry.domain.alias import Move
from services.registry.domain.artifact_uri import ArtifactPlace
from services.registry.domain.search import Comparison, Order, Search, parse_comparisons, parse_order
from services.registry.domain.stages import NEXT
from services.registry.domain.version import Model, Stage, Version
from services.registry.engines.aliasing import Aliasing
from services.registry.engines.changing import Changing
from services.registry.engines.inspecting import Inspecting
from services.registry.engines.reading import Reading
from services.registry.engines.searching import Searching
from services.registry.engines.watch import DatabaseWatch
from tests.support.clock import FakeClock
from tests.support.registry_fakes import (
    FakeReader,
    MemoryAliasBook,
    MemoryArtifactStore,
    MemoryCatalogue,
    MemoryFinder,
    new,
)
from tests.support.registry_reading import MemoryTeamRules

NOBODY = ""


@dataclass
class Engines:
    catalogue: MemoryCatalogue
    reading: Reading
    changing: Changing
    aliasing: Aliasing
    searching: Searching


@pytest.fixture
async def engines() -> Engines:
    """Over three versions of iris."""
    catalogue = MemoryCatalogue(FakeClock())
    for version in ("v1.0.0", "v1.1.0", "v2.0.0-rc.1"):
        await catalogue.register(new(version=version, text=version))
    reading = Reading(catalogue)
    return Engines(
        catalogue,
        reading,
        Changing(catalogue=catalogue, reading=reading),
        Aliasing(book=MemoryAliasBook(catalogue), reading=reading),
        Searching(MemoryFinder(catalogue)),
    )


async def listed(engines: Engines, page_token: str = "", stage: str = "", model: str = "iris") -> tuple[list[str], str]:
    page = await engines.reading.versions(model, _shown, stage=stage, page_size=2, page_token=page_token, team=NOBODY)
    return [one.version for one in page.items], page.next_page_token


def _shown(version: Version) -> model_version_pb2.ModelVersion:
    return version_to_proto(version, str, str)


def failing(reason: Reason) -> "pytest.RaisesExc[MeshError]":
    return pytest.raises(MeshError, check=lambda error: error.reason is reason)


@pytest.mark.parametrize(
    ("asked", "found"), [("v1.0.0", "v1.0.0"), ("1.0.0", "v1.0.0"), ("latest", "v2.0.0-rc.1"), ("best", "v1.1.0")]
)
async def test_a_version_is_found_by_number_latest_or_alias(engines: Engines, asked: str, found: str) -> None:
    await engines.aliasing.point(Move("iris", "best", "1.1.0"), expected_version="", etag="", team=NOBODY)
    assert (await engines.reading.version("iris", asked, team=NOBODY)).version == found


@pytest.mark.parametrize(
    ("model", "version", "reason"),
    [
        ("iris", "v3.0.0", Reason.VERSION_NOT_FOUND),
        ("iris", "worst", Reason.VERSION_NOT_FOUND),
        ("rose", "v1.0.0", Reason.MODEL_NOT_FOUND),
        ("rose", "latest", Reason.MODEL_NOT_FOUND),
        ("No Spaces", "v1.0.0", Reason.INVALID_FIELD),
        ("iris", "No Spaces", Reason.INVALID_FIELD),
        ("iris", "", Reason.INVALID_FIELD),
    ],
)
async def test_what_is_not_there_is_named(engines: Engines, model: str, version: str, reason: Reason) -> None:
    with failing(reason) as caught:
        await engines.reading.version(model, version, team=NOBODY)
    wrong = model if reason is Reason.MODEL_NOT_FOUND or " " in model else version
    assert repr(wrong) in caught.value.message


async def test_pages_follow_on_each_other_and_tokens_belong_to_their_query(engines: Engines) -> None:
    first, token = await listed(engines)
    assert first == ["v2.0.0-rc.1", "v1.1.0"]
    assert await listed(engines, token) == (["v1.0.0"], "")
    with failing(Reason.INVALID_PAGE_TOKEN):
        await listed(engines, token, stage="draft")
    with failing(Reason.INVALID_PAGE_TOKEN):
        await engines.reading.models(
            model_to_proto, prefix="", framework="", tags=(), of_team="", page_size=2, page_token=token, team=NOBODY
        )
    with failing(Reason.MODEL_NOT_FOUND):
        await listed(engines, model="rose")
    with failing(Reason.INVALID_FIELD):
        await listed(engines, stage="finished")


async def test_models_are_paged(engines: Engines) -> None:
    await engines.catalogue.register(new(model="rose"))
    names, token = [], ""
    while True:
        page = await engines.reading.models(
            model_to_proto, prefix="", framework="onnx", tags=(), of_team="", page_size=1, page_token=token, team=NOBODY
        )
        names += [one.name for one in page.items]
        token = page.next_page_token
        if not token:
            break
    assert names == ["iris", "rose"]


async def test_searches_are_paged(engines: Engines) -> None:
    found, token = [], ""
    while True:
        page = await engines.searching.page(Search(words=("iris",)), _shown, page_size=2, page_token=token, team=NOBODY)
        found += [one.version for one in page.items]
        token = page.next_page_token
        if not token:
            break
    assert found == ["v2.0.0-rc.1", "v1.1.0", "v1.0.0"]
    for wrong in (Search(framework="caffe"), Search(stage="done"), Search(words=("a",) * 17), Search(prefix="\0")):
        with failing(Reason.INVALID_FIELD):
            await engines.searching.page(wrong, _shown, page_size=2, page_token="", team=NOBODY)


async def test_a_change_needs_the_etag_that_is_current(engines: Engines) -> None:
    before = await engines.reading.model("iris", team=NOBODY)

    def change(model: Model) -> Model:
        return replace(model, description="flowers")

    changed = await engines.changing.model("iris", etag=before.etag, change=change, team=NOBODY)
    assert (changed.description, changed.etag != before.etag) == ("flowers", True)
    with failing(Reason.ETAG_MISMATCH):
        await engines.changing.model("iris", etag=before.etag, change=change, team=NOBODY)
    # The same again without one is no change at all.
    assert await engines.changing.model("iris", etag="", change=change, team=NOBODY) == changed


async def test_a_change_without_an_etag_outlasts_others(engines: Engines) -> None:
    current = await engines.reading.version("iris", "v1.0.0", team=NOBODY)
    calls = 0

    def change(version: Version) -> Version:
        nonlocal calls
        calls += 1
        # The first time it works on what is old already.
        return replace(version if calls > 1 else replace(current, revision=0), model_card="card")

    changed = await engines.changing.version("iris", "v1.0.0", etag="", change=change, team=NOBODY)
    assert (changed.model_card, calls) == ("card", 2)


@pytest.mark.parametrize("before", list(Stage))
@pytest.mark.parametrize("after", list(Stage))
async def test_stages_follow_each_other_as_stated(engines: Engines, before: Stage, after: Stage) -> None:
    made = await engines.catalogue.register(new(version="v3.0.0", text="3", stage=before))

    async def move(**more: str) -> Version:
        asked = {"stage": after.value, "reason": "", "etag": "", **more}
        return await engines.changing.stage("iris", "3.0.0", team=NOBODY, caller="ann", **asked)

    if after in NEXT[before]:
        assert (await move(etag=made.etag)).stage is after
    else:
        with failing(Reason.STAGE_TRANSITION_INVALID) as caught:
            await move()
        assert before in caught.value.message
    with failing(Reason.INVALID_FIELD):
        await move(stage="finished")
    with failing(Reason.INVALID_FIELD):
        await move(reason="r" * 1025)


async def test_an_alias_moves_only_from_where_it_was_expected(engines: Engines) -> None:
    async def point(version: str, expected: str = "", etag: str = "") -> str:
        move = Move("iris", "champion", version)
        return (await engines.aliasing.point(move, expected_version=expected, etag=etag, team=NOBODY)).etag

    with failing(Reason.ETAG_MISMATCH):
        await point("v1.0.0", expected="v1.0.0")
    first = await point("v1.0.0")
    with failing(Reason.ETAG_MISMATCH):
        await point("v1.1.0", expected="v1.1.0")
    second = await point("v1.1.0", expected="1.0.0", etag=first)
    with failing(Reason.ETAG_MISMATCH):
        await point("v1.0.0", etag=first)
    with failing(Reason.VERSION_NOT_FOUND):
        await point("v9.0.0")
    with failing(Reason.ETAG_MISMATCH):
        await engines.aliasing.drop("iris", "champion", etag=first, caller="", team=NOBODY)
    await engines.aliasing.drop("iris", "champion", etag=second, caller="", team=NOBODY)
    for gone in (
        engines.aliasing.get("iris", "champion", team=NOBODY),
        engines.aliasing.drop("iris", "champion", etag="", caller="", team=NOBODY),
        engines.aliasing.moves("iris", "other", page_size=0, page_token="", team=NOBODY),
    ):
        with failing(Reason.ALIAS_NOT_FOUND):
            await gone
    page = await engines.aliasing.moves("iris", "champion", page_size=2, page_token="", team=NOBODY)
    assert [one.to_version for one in page.moves] == ["", "v1.1.0"]
    last = await engines.aliasing.moves("iris", "champion", page_size=2, page_token=page.next_page_token, team=NOBODY)
    assert ([one.to_version for one in last.moves], last.next_page_token) == (["v1.0.0"], "")


@pytest.mark.parametrize("alias", ["", "latest", "v1.0.0", "1.0.0", "Best", "a--b"])
async def test_an_alias_is_never_mistaken_for_a_version(engines: Engines, alias: str) -> None:
    with failing(Reason.INVALID_FIELD) as caught:
        await engines.aliasing.point(Move("iris", alias, "v1.0.0"), expected_version="", etag="", team=NOBODY)
    assert caught.value.violations[0].field == "alias"


async def test_an_artifact_is_looked_into_without_registering() -> None:
    store = MemoryArtifactStore(FakeClock(), {"/iris.onnx": b"iris", "/broken": b"broken"})
    broken = await store.keep(ArtifactPlace(path="/broken"))
    catalogue = MemoryCatalogue(FakeClock())
    inspecting = Inspecting(catalogue=catalogue, store=store, reader=FakeReader(broken.digest), rules=MemoryTeamRules())
    report = await inspecting.inspect("/iris.onnx", "")
    assert (report.framework, report.artifact.filename, report.artifact.version_count) == ("onnx", "iris.onnx", 0)
    assert report.mapping is not None
    assert report.mapping.probabilities_tensor == "probabilities"
    assert await catalogue.model("iris") is None
    other = await inspecting.inspect("/iris.onnx", "sklearn")
    assert (other.framework, other.schema, len(other.problems)) == ("onnx", report.schema, 1)
    assert "it is an ONNX file" in other.problems[0]
    refused = await inspecting.inspect("/broken", "onnx")
    assert (refused.framework, refused.schema, len(refused.problems)) == ("", None, 1)
    assert (await inspecting.get(broken.digest)).stored.size_bytes == len(b"broken")
    for wrong, reason in (("short", Reason.INVALID_FIELD), ("0" * 64, Reason.ARTIFACT_NOT_FOUND)):
        with failing(reason):
            await inspecting.get(wrong)
    for uri, framework, reason in (
        ("/nothing", "", Reason.ARTIFACT_NOT_FOUND),
        ("/iris.onnx", "caffe", Reason.INVALID_FIELD),
    ):
        with failing(reason):
            await inspecting.inspect(uri, framework)


async def test_readiness_follows_the_database(caplog: pytest.LogCaptureFixture) -> None:
    catalogue = MemoryCatalogue(FakeClock())
    watch = DatabaseWatch(catalogue, clock=FakeClock(), period_s=1)
    assert not watch.reachable
    for down in (False, True, True, False):
        catalogue.down = down
        await watch.look()
        assert watch.reachable is not down


def test_comparisons_and_orders_are_read_as_documented() -> None:
    read = parse_comparisons(["accuracy > 0.9", "val loss<=1e-3", "f1!=0", "a-b = -1.5"])
    assert read == (
        Comparison("accuracy", ">", 0.9),
        Comparison("val loss", "<=", 0.001),
        Comparison("f1", "!=", 0),
        Comparison("a-b", "=", -1.5),
    )
    for wrong in ("accuracy", "> 0.9", "accuracy > high", "accuracy => 1", "accuracy > nan", "accuracy >"):
        with failing(Reason.INVALID_FIELD) as caught:
            parse_comparisons(["f1 > 0", wrong])
        assert caught.value.violations[0].field == "metrics[1]"
    with failing(Reason.INVALID_FIELD):
        parse_comparisons(["f1 > 0"] * 17)
    assert parse_order("") == Order()
    assert parse_order("created_at desc") == Order("created_at", descending=True)
    assert parse_order("metric:val loss desc") == Order("metric", "val loss", True)
    assert parse_order("metric:f1") == Order("metric", "f1")
    for wrong in ("size", "name up", "metric:", "metric: desc", "name desc desc"):
        with failing(Reason.INVALID_FIELD):
            parse_order(wrong)
