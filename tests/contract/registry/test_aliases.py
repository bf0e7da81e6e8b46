"""What every `AliasBook` promises."""

import asyncio

import pytest

from services.common.errors import MeshError, Reason
from services.registry.domain.alias import Move
from tests.contract.registry.conftest import Kept
from tests.support.registry_fakes import new


@pytest.fixture
async def book(kept: Kept) -> Kept:
    """Two versions to point at."""
    for version in ("v1.0.0", "v2.0.0"):
        await kept.catalogue.register(new(version=version, text=version, team="vision"))
    return kept


async def test_an_alias_points_where_it_was_moved_last(book: Kept) -> None:
    first = await book.book.move(Move("iris", "champion", "v1.0.0", "tried", "ann"), revision=None)
    assert first is not None
    assert (first.model_name, first.alias, first.version, first.updated_by) == ("iris", "champion", "v1.0.0", "ann")
    second = await book.book.move(Move("iris", "champion", "v2.0.0", "better", "bob"), revision=first.revision)
    assert second is not None
    assert await book.book.find("iris", "champion") == second
    assert second.etag != first.etag
    version = await book.catalogue.version("iris", "champion")
    assert version is not None
    assert (version.version, version.aliases) == ("v2.0.0", ("champion",))
    model = await book.catalogue.model("iris")
    assert model is not None
    assert model.aliases == {"champion": "v2.0.0"}
    moves = await book.book.moves("iris", "champion", before=0, limit=10)
    assert [(one.from_version, one.to_version, one.reason, one.moved_by) for one in moves] == [
        ("v1.0.0", "v2.0.0", "better", "bob"),
        ("", "v1.0.0", "tried", "ann"),
    ]
    assert await book.book.moves("iris", "champion", before=moves[0].move_id, limit=10) == moves[1:]


async def test_a_move_that_changes_nothing_is_none(book: Kept) -> None:
    first = await book.book.move(Move("iris", "champion", "v1.0.0"), revision=None)
    assert await book.book.move(Move("iris", "champion", "v1.0.0"), revision=None) == first
    assert len(await book.book.moves("iris", "champion", before=0, limit=10)) == 1


async def test_of_two_moves_from_one_revision_one_is_made(book: Kept) -> None:
    moves = (Move("iris", "champion", version) for version in ("v1.0.0", "v2.0.0"))
    made = await asyncio.gather(*(book.book.move(move, revision=0) for move in moves))
    assert [one is None for one in made].count(True) == 1
    assert await book.book.move(Move("iris", "champion", "v1.0.0"), revision=999_999) is None


async def test_what_is_taken_away_is_gone_but_its_moves(book: Kept) -> None:
    pointed = await book.book.move(Move("iris", "champion", "v1.0.0"), revision=None)
    assert await book.book.move(Move("iris", "champion", ""), revision=None) == pointed
    assert await book.book.move(Move("iris", "champion", ""), revision=None) is None
    assert await book.book.find("iris", "champion") is None
    assert await book.catalogue.version("iris", "champion") is None
    moves = await book.book.moves("iris", "champion", before=0, limit=10)
    assert [one.to_version for one in moves] == ["", "v1.0.0"]
    again = await book.book.move(Move("iris", "champion", "v1.0.0"), revision=0)
    assert again is not None
    assert pointed is not None
    assert again.etag != pointed.etag


@pytest.mark.parametrize(("model", "version"), [("iris", "v9.0.0"), ("rose", "v1.0.0"), ("rose", "")])
async def test_nothing_points_at_nothing(book: Kept, model: str, version: str) -> None:
    with pytest.raises(MeshError) as caught:
        await book.book.move(Move(model, "champion", version), revision=None)
    assert caught.value.reason is Reason.VERSION_NOT_FOUND


async def test_aliases_are_listed_in_alphabetical_order_to_those_who_may_see_them(book: Kept) -> None:
    for alias in ("b", "a", "c"):
        await book.book.move(Move("iris", alias, "v1.0.0"), revision=None)
    assert [one.alias for one in await book.book.page("iris", after="", limit=2)] == ["a", "b"]
    assert [one.alias for one in await book.book.page("iris", after="b", limit=2, team="vision")] == ["c"]
    assert await book.book.page("iris", after="", limit=2, team="fraud") == []
    assert await book.book.find("iris", "a", team="fraud") is None
    assert await book.book.moves("iris", "a", before=0, limit=9, team="fraud") == []
