"""What every `Catalogue` promises, shown for the real one and for the one that other tests use."""

import asyncio
from dataclasses import replace

import pytest

from services.common.errors import MeshError, Reason
from services.common.feature_view import FeatureStoreKind, FeatureView, OnMissing
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.registry.domain.reference import sample_of
from services.registry.domain.version import Lineage, NewVersion, Stage
from services.registry.ports import Catalogue
from tests.support.registry_fakes import content, new

FULL = content(
    schema=ModelSchema(
        (
            TensorSpec("X", DataType.FP32, (-1, 4), True, "[0.5]", -1.5, 1e300),
            TensorSpec("c", DataType.BYTES, (), categories=("a",)),
        ),
        (TensorSpec("label", DataType.INT64),),
    ),
    mapping=PredictionMapping("label", "", ("ä", "b")),
    framework_version="1.23.2",
    input_schema={"X": {"type": "array", "items": "float"}, "c": "string"},
    output_schema={"label": "int"},
    metadata={"accuracy": 0.9, "rows": 1e300, "tiny": 5e-324, "none": None, "nested": {"list": [1.0, "two", False]}},
    lineage=Lineage(dataset="iris", parent_version="v0.9.0", hyperparameters={"depth": 3.0}),
    metrics={"accuracy": 0.9, "rows": 1e300},
    feature_views=(
        FeatureView("bare", "garden_id", {"petal": "float"}),
        FeatureView(
            "full",
            "flower_id",
            {"stem": "array<float>", "name": "string"},
            store=FeatureStoreKind.FEAST,
            on_missing=OnMissing.DEFAULT,
            defaults={"stem": [0, 0.5, 1e300], "name": "ünïcode"},
            max_age_s=0.5,
        ),
    ),
    tags=("a", "b"),
)


async def refusal(catalogue: Catalogue, asked: NewVersion) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await catalogue.register(asked)
    return caught.value


async def test_what_is_registered_is_found_to_the_letter(catalogue: Catalogue) -> None:
    asked = new(
        content=FULL, description="flowers", stage=Stage.ACTIVE, model_card="# Iris", request_id="r", created_by="ann"
    )
    made = await catalogue.register(asked)
    assert (made.content, made.artifact_uri, made.stage, made.model_card) == (
        FULL,
        "/models/iris.onnx",
        "active",
        "# Iris",
    )
    assert (made.request_id, made.created_by, made.team, made.revision, made.aliases) == ("r", "ann", "", 1, ())
    for name in ("v1.0.0", "latest"):
        assert await catalogue.version("iris", name) == made
    assert await catalogue.version("iris", "v1.0.1") is None
    assert await catalogue.version("other", "latest") is None
    model = await catalogue.model("iris")
    assert model is not None
    assert (model.description, model.framework, model.created_by, model.tags) == ("flowers", "onnx", "ann", ("a", "b"))
    assert (model.latest_version, model.version_count, model.aliases, model.revision) == ("v1.0.0", 1, {}, 1)
    assert await catalogue.model("other") is None
    assert await catalogue.uses(FULL.artifact.digest) == 1
    assert await catalogue.used([FULL.artifact.digest, "0" * 64]) == {FULL.artifact.digest}
    await catalogue.check()


async def test_the_same_content_again_is_the_same_version_and_changes_nothing(catalogue: Catalogue) -> None:
    made = await catalogue.register(new(content=FULL))
    model = await catalogue.model("iris")
    elsewhere = replace(new(content=FULL), artifact_uri="/elsewhere.onnx", stage=Stage.ACTIVE, description="new")
    assert await catalogue.register(elsewhere) == made
    assert await catalogue.model("iris") == model


async def test_other_content_under_a_version_is_refused_naming_what_differs(catalogue: Catalogue) -> None:
    await catalogue.register(new())
    error = await refusal(catalogue, new(text="other weights"))
    assert (error.reason, error.metadata["differs"]) == (Reason.VERSION_EXISTS, "artifact")
    error = await refusal(catalogue, new(content=content(metadata={"a": 1.0}, framework_version="2")))
    assert error.metadata["differs"] == "framework_version,metadata"
    assert "v1.0.0" in error.message
    assert (await catalogue.version("iris", "latest")) == await catalogue.register(new())


async def test_a_request_id_registers_one_version(catalogue: Catalogue) -> None:
    made = await catalogue.register(new(request_id="r1"))
    assert await catalogue.register(new(request_id="r1")) == made
    for other in (new(version="v2.0.0", request_id="r1"), new(model="rose", request_id="r1")):
        error = await refusal(catalogue, other)
        assert error.reason is Reason.REQUEST_ID_REUSED
        assert "v1.0.0 of model 'iris'" in error.message
    assert (await refusal(catalogue, new(text="other", request_id="r1"))).reason is Reason.VERSION_EXISTS
    # Nothing of what was refused is left.
    assert await catalogue.model("rose") is None
    assert len(await catalogue.versions("iris", stage="", below="", limit=10)) == 1


async def test_of_many_at_once_one_is_registered_and_all_get_it(catalogue: Catalogue) -> None:
    made = await asyncio.gather(*(catalogue.register(new(request_id="r1")) for _ in range(8)))
    assert len({one.version_id for one in made}) == 1
    texts = await asyncio.gather(
        *(catalogue.register(new(version="v2.0.0", text=f"weights {number}")) for number in range(4)),
        return_exceptions=True,
    )
    assert sum(not isinstance(one, BaseException) for one in texts) == 1


async def test_every_version_of_a_model_has_its_framework(catalogue: Catalogue) -> None:
    await catalogue.register(new())
    error = await refusal(catalogue, new(version="v2.0.0", content=content(framework="xgboost")))
    assert (error.reason, error.violations[0].field) == (Reason.INVALID_FIELD, "framework")


async def test_versions_are_listed_by_precedence_in_pages(catalogue: Catalogue) -> None:
    for version in ("v1.2.0", "v1.10.0", "v2.0.0-rc.10", "v2.0.0-rc.9", "v2.0.0", "v2.0.0-rc.9.a"):
        stage = Stage.ACTIVE if version == "v1.2.0" else Stage.DRAFT
        await catalogue.register(new(version=version, text=version, stage=stage))

    async def names(stage: str = "", below: str = "", limit: int = 10) -> list[str]:
        return [one.version for one in await catalogue.versions("iris", stage=stage, below=below, limit=limit)]

    every = ["v2.0.0", "v2.0.0-rc.10", "v2.0.0-rc.9.a", "v2.0.0-rc.9", "v1.10.0", "v1.2.0"]
    assert await names() == every
    assert await names(limit=2) == every[:2]
    assert await names(stage="active") == ["v1.2.0"]
    assert await catalogue.versions("other", stage="", below="", limit=10) == []
    latest = await catalogue.version("iris", "latest")
    assert latest is not None
    assert latest.version == "v2.0.0"


async def test_models_are_listed_in_alphabetical_order_and_filtered(catalogue: Catalogue) -> None:
    for name, tags in (("b-1", ("x",)), ("a_2", ("x", "y")), ("a-1", ())):
        await catalogue.register(new(model=name, content=content(tags=tags)))

    async def names(after: str = "", limit: int = 10, **only: object) -> list[str]:
        asked = {"prefix": "", "framework": "", "tags": (), "of_team": "", **only}
        return [one.name for one in await catalogue.models(after=after, limit=limit, **asked)]  # type: ignore[arg-type]

    assert await names() == ["a-1", "a_2", "b-1"]
    assert await names(limit=1) == ["a-1"]
    assert await names(after="a-1") == ["a_2", "b-1"]
    assert await names(prefix="a_") == ["a_2"]
    assert await names(tags=["x"]) == ["a_2", "b-1"]
    assert await names(tags=["x", "y"]) == ["a_2"]
    assert await names(framework="xgboost") == []
    assert await names(of_team="vision") == []


async def test_of_two_changes_of_one_revision_one_is_taken(catalogue: Catalogue) -> None:
    made = await catalogue.register(new())
    model = await catalogue.model("iris")
    assert model is not None
    changed = await catalogue.change_model(replace(model, description="d", tags=("t",), model_card="c"))
    assert changed is not None
    assert (changed.description, changed.tags, changed.model_card, changed.revision) == ("d", ("t",), "c", 2)
    assert changed.etag != model.etag
    assert await catalogue.change_model(replace(model, description="late")) is None
    assert await catalogue.model("iris") == changed
    staged = await catalogue.change_version(replace(made, stage=Stage.ACTIVE, model_card="c"))
    assert staged is not None
    assert (staged.stage, staged.model_card, staged.revision, staged.content) == ("active", "c", 2, made.content)
    assert await catalogue.change_version(replace(made, stage=Stage.ARCHIVED)) is None
    assert await catalogue.version("iris", "v1.0.0") == staged


async def test_what_is_another_teams_is_not_there(catalogue: Catalogue) -> None:
    await catalogue.register(new(team="vision"))
    await catalogue.register(new(model="open"))
    for team, sees in (("", True), ("vision", True), ("fraud", False)):
        assert (await catalogue.model("iris", team=team) is not None) is sees
        assert (await catalogue.version("iris", "latest", team=team) is not None) is sees
        assert bool(await catalogue.versions("iris", stage="", below="", limit=9, team=team)) is sees
        listed = await catalogue.models(prefix="", framework="", tags=(), of_team="", after="", limit=9, team=team)
        assert [one.name for one in listed] == (["iris", "open"] if sees else ["open"])
    owned = await catalogue.models(prefix="", framework="", tags=(), of_team="vision", after="", limit=9)
    assert [(one.name, one.team) for one in owned] == [("iris", "vision")]
    assert (await refusal(catalogue, new(version="v2.0.0", team="fraud"))).reason is Reason.PERMISSION_DENIED
    error = await refusal(catalogue, new(model="other", team="nobody"))
    assert (error.reason, error.metadata["team"] if error.metadata else "nobody") == (Reason.TEAM_NOT_FOUND, "nobody")
    assert await catalogue.model("other") is None


async def test_a_reference_sample_is_kept_to_the_byte_and_belongs_to_the_content(catalogue: Catalogue) -> None:
    sample = sample_of([{"X": [0.1, 2.0, -3.0, 1e300]}, {"X": [0.0, 0.0, 0.0, 0.0]}])
    with_sample = content(reference_digest=sample.digest, reference_rows=sample.rows)
    made = await catalogue.register(new(content=with_sample, reference=sample.content))
    assert (made.content.reference_digest, made.content.reference_rows) == (sample.digest, 2)
    assert await catalogue.reference(sample.digest) == sample.content
    assert await catalogue.register(new(content=with_sample, reference=sample.content)) == made
    other = await catalogue.register(new(version="v1.1.0", content=with_sample, reference=sample.content))
    assert other.content == made.content
    error = await refusal(catalogue, new())
    assert (error.reason, error.metadata["differs"]) == (Reason.VERSION_EXISTS, "reference_sample")
    assert await catalogue.reference("0" * 64) is None
