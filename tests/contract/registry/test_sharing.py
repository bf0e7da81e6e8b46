"""Whose eyes see what: every `Catalogue`, `Finder` and `AliasBook` decides as the domain does."""

import pytest

from services.common.database import create_engine
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.postgres_teams_sharing import PostgresSharingBook
from services.registry.domain.access import Author, is_seen, viewer_of
from services.registry.domain.alias import Move
from services.registry.domain.search import Search
from tests.contract.registry.conftest import Kept
from tests.support.registry_fakes import MemoryCatalogue, new

MODELS = {"iris": "vision", "lily": "fraud", "open": "", "rose": "vision"}
SHARED = {"rose": ("fraud",)}


@pytest.fixture
async def shared(kept: Kept, url: str) -> Kept:
    """Models of two teams and of nobody, one of them shared."""
    for name, team in MODELS.items():
        await kept.catalogue.register(new(model=name, text=name, team=team))
        await kept.book.move(Move(name, "best", "v1.0.0"), revision=None)
    if isinstance(kept.catalogue, MemoryCatalogue):
        kept.catalogue.share("rose", "fraud")
        return kept
    engine = create_engine(url, schema=SCHEMA, pool_size=1)
    await PostgresSharingBook(engine).share("rose", "fraud", owner="vision", author=Author())
    await engine.dispose()
    return kept


@pytest.mark.parametrize(
    "caller",
    [
        Identity(),
        Identity(role="platform-admin"),
        Identity(role="platform-admin", models=frozenset({"iris", "open"})),
        Identity(role="viewer", team="vision"),
        Identity(role="viewer", team="fraud"),
        Identity(role="admin", team="fraud", models=frozenset({"rose", "iris"})),
        Identity(role="admin", team="nobody"),
        Identity(role="anonymous", user="ann"),
        Identity(role="anonymous", team="vision"),
        Identity(role="viewer"),
    ],
)
async def test_what_is_seen_is_what_the_domain_says(shared: Kept, caller: Identity) -> None:
    viewer = viewer_of(caller)
    truth = [name for name, team in MODELS.items() if is_seen(viewer, name, team, SHARED.get(name, ()))]
    listed = await shared.catalogue.models(prefix="", framework="", tags=(), of_team="", after="", limit=9, team=viewer)
    assert [one.name for one in listed] == truth
    found = await shared.finder.find(Search(), after=(), limit=9, team=viewer)
    assert sorted(one.version.model_name for one in found) == truth
    for name in MODELS:
        sees = name in truth
        assert (await shared.catalogue.model(name, team=viewer) is not None) is sees
        assert (await shared.catalogue.version(name, "latest", team=viewer) is not None) is sees
        assert (await shared.book.find(name, "best", team=viewer) is not None) is sees
        assert bool(await shared.book.moves(name, "best", before=0, limit=9, team=viewer)) is sees


@pytest.mark.parametrize(
    ("viewer", "names"), [("", ("fraud",)), ("vision", ("fraud",)), ("fraud", ("fraud",)), ("* rose", ("fraud",))]
)
async def test_who_sees_a_model_too_is_for_its_owners(shared: Kept, viewer: str, names: tuple[str, ...]) -> None:
    model = await shared.catalogue.model("rose", team=viewer)
    assert model is not None
    assert model.shared_with == names


async def test_another_teams_request_id_says_nothing_of_what_it_made(kept: Kept) -> None:
    await kept.catalogue.register(new(model="iris", team="vision", request_id="wish"))
    with pytest.raises(MeshError) as caught:
        await kept.catalogue.register(new(model="rose", team="fraud", request_id="wish"))
    assert (caught.value.reason, caught.value.metadata) == (Reason.REQUEST_ID_REUSED, {})
    assert "iris" not in caught.value.message
    with pytest.raises(MeshError) as caught:
        await kept.catalogue.register(new(model="lily", team="vision", request_id="wish"))
    assert caught.value.metadata["model_name"] == "iris"


async def test_a_model_of_nobody_is_not_every_teams_to_add_to(kept: Kept) -> None:
    await kept.catalogue.register(new(model="open"))
    with pytest.raises(MeshError) as caught:
        await kept.catalogue.register(new(model="open", version="v2.0.0", text="other", team="vision"))
    assert caught.value.reason is Reason.PERMISSION_DENIED
    assert (await kept.catalogue.register(new(model="open", version="v2.0.0", text="other"))).team == ""
