"""What every `Finder` promises."""

import pytest

from services.common.errors import MeshError, Reason
from services.registry.adapters import postgres_search_filters
from services.registry.domain.alias import Move
from services.registry.domain.lineage import Node
from services.registry.domain.search import Comparison, Order, Search
from services.registry.domain.version import Lineage, Stage
from tests.contract.registry.conftest import Kept
from tests.support.registry_fakes import content, new


@pytest.fixture(autouse=True, params=["few", "many"])
def amount(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database takes for few, and for many: it asks for each in another way."""
    if request.param == "many":
        monkeypatch.setattr(postgres_search_filters, "FEW", 0)
        monkeypatch.setattr(postgres_search_filters, "LISTED_MAX", 0)


@pytest.fixture
async def found(kept: Kept) -> Kept:
    """Two models of three versions."""
    for model, version, accuracy, tags, stage in (
        ("iris", "v1.0.0", 0.8, ("flower",), Stage.ACTIVE),
        ("iris", "v1.10.0", 0.95, (), Stage.DRAFT),
        ("letters", "v1.0.0", 0.9, ("Text",), Stage.DRAFT),
    ):
        made = content(f"{model}{version}", metrics={"accuracy": accuracy, model: 1.0}, tags=tags)
        await kept.catalogue.register(
            new(
                model,
                version,
                content=made,
                stage=stage,
                description=f"Recognises {model}",
                model_card="100 % sure_ Äpfel",
            )
        )
    await kept.book.move(Move("iris", "champion", "v1.0.0"), revision=None)
    return kept


async def names(kept: Kept, search: Search, team: str = "") -> list[str]:
    found = await kept.finder.find(search, after=(), limit=10, team=team)
    return [f"{one.version.model_name}@{one.version.version}" for one in found]


IRIS_1, IRIS_10, LETTERS = "iris@v1.0.0", "iris@v1.10.0", "letters@v1.0.0"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [IRIS_10, IRIS_1, LETTERS]),
        ({"words": ("recognises", "LETTERS")}, [LETTERS]),
        ({"words": ("text",)}, [LETTERS]),
        ({"words": ("xt",)}, [LETTERS]),
        ({"words": ("s", "fl")}, [IRIS_10, IRIS_1]),
        ({"words": ("zz",)}, []),
        ({"words": ("%", "sure_")}, [IRIS_10, IRIS_1, LETTERS]),
        ({"words": ("sure__",)}, []),
        ({"words": ("Äpfel", "SURE")}, [IRIS_10, IRIS_1, LETTERS]),
        ({"prefix": "let"}, [LETTERS]),
        ({"tags": ("flower",)}, [IRIS_10, IRIS_1]),
        ({"framework": "onnx", "stage": "active"}, [IRIS_1]),
        ({"framework": "xgboost"}, []),
        ({"alias": "champion"}, [IRIS_1]),
        ({"of_team": "vision"}, []),
        ({"metrics": (Comparison("accuracy", ">", 0.8),)}, [IRIS_10, LETTERS]),
        ({"metrics": (Comparison("accuracy", ">=", 0.8), Comparison("accuracy", "!=", 0.9))}, [IRIS_10, IRIS_1]),
        ({"metrics": (Comparison("letters", "=", 1.0),)}, [LETTERS]),
        ({"metrics": (Comparison("unknown'--", "<", 1.0),)}, []),
        ({"latest_only": True}, [IRIS_10, LETTERS]),
        ({"latest_only": True, "stage": "active"}, [IRIS_1]),
        ({"order": Order("name", descending=True)}, [LETTERS, IRIS_10, IRIS_1]),
        ({"order": Order("metric", "accuracy")}, [IRIS_1, LETTERS, IRIS_10]),
        ({"order": Order("metric", "letters", descending=True)}, [LETTERS, IRIS_10, IRIS_1]),
        ({"order": Order("metric", "letters")}, [LETTERS, IRIS_10, IRIS_1]),
    ],
)
async def test_all_that_is_asked_holds_of_what_is_found(
    found: Kept, asked: dict[str, object], expected: list[str]
) -> None:
    assert await names(found, Search(**asked)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["name", "created_at", "updated_at", "metric"])
@pytest.mark.parametrize("descending", [False, True])
async def test_pages_follow_on_each_other_in_every_order(found: Kept, by: str, descending: bool) -> None:
    search = Search(order=Order(by, "iris" if by == "metric" else "", descending))
    every = [one.version for one in await found.finder.find(search, after=(), limit=10)]
    paged = []
    after: tuple[str, ...] = ()
    while page := await found.finder.find(search, after=after, limit=1):
        paged += [one.version for one in page]
        after = page[-1].position
    assert paged == every
    assert len(every) == 3


async def test_the_highest_of_each_model_is_chosen_before_it_is_ordered(kept: Kept) -> None:
    for model, version, metrics in (
        ("a", "v1.0.0", {"accuracy": 0.9}),
        ("a", "v2.0.0", {}),
        ("b", "v1.0.0", {"accuracy": 0.5}),
    ):
        made = content(f"{model}{version}", metrics=metrics)
        await kept.catalogue.register(new(model, version, content=made, stage=Stage.ACTIVE))
    for stage in ("", "active"):
        search = Search(latest_only=True, stage=stage, order=Order("metric", "accuracy", descending=True))
        assert await names(kept, search) == ["b@v1.0.0", "a@v2.0.0"]
    above = Search(latest_only=True, metrics=(Comparison("accuracy", ">", 0.4),))
    assert await names(kept, above) == ["a@v1.0.0", "b@v1.0.0"]


async def test_versions_are_found_by_what_they_were_made_from(kept: Kept) -> None:
    for model, version, lineage, team in (
        ("base", "v1.0.0", Lineage(dataset="mnist", training_run="run:1", trained_by="ann"), "vision"),
        ("base", "v1.1.0", Lineage(parent_version="v1.0.0"), "vision"),
        ("theirs", "v1.0.0", Lineage(parent_version="base@v1.1.0", code_commit="abc"), "fraud"),
        ("tuned", "v1.0.0", Lineage(parent_version="theirs@v1.0.0"), "vision"),
    ):
        made = content(f"{model}{version}", lineage=lineage)
        await kept.catalogue.register(new(model, version, content=made, team=team))
    everything = ["base@v1.1.0", "base@v1.0.0", "theirs@v1.0.0", "tuned@v1.0.0"]
    assert await names(kept, Search(lineage=(Node("dataset", "mnist"),))) == everything
    assert await names(kept, Search(lineage=(Node("version", "base@v1.0.0"),))) == [everything[0], *everything[2:]]
    assert await names(kept, Search(lineage=(Node("run", "run:1"), Node("commit", "abc")))) == everything[2:]
    assert await names(kept, Search(lineage=(Node("person", "ann"),)), team="vision") == everything[:2]
    assert await names(kept, Search(lineage=(Node("person", "bob"),))) == []
    assert (
        await names(kept, Search(lineage=(Node("dataset", "mnist"),), latest_only=True, prefix="b")) == everything[:1]
    )


async def test_what_is_another_teams_is_not_found(kept: Kept) -> None:
    await kept.catalogue.register(new(team="vision"))
    assert await names(kept, Search(), team="vision") == ["iris@v1.0.0"]
    assert await names(kept, Search(of_team="vision")) == ["iris@v1.0.0"]
    assert await names(kept, Search(), team="fraud") == []


async def test_a_position_that_no_page_had_is_refused(kept: Kept, url: str) -> None:
    if not url:
        pytest.skip("the memory looks positions up; only the database reads them")
    with pytest.raises(MeshError) as caught:
        await kept.finder.find(Search(order=Order("created_at")), after=("noon", "a", "b"), limit=1)
    assert caught.value.reason is Reason.INVALID_PAGE_TOKEN
