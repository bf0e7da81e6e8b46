"""Aliases: pointing, finding, taking away."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import MeshError, Reason
from services.common.names import check_model_name
from services.common.page import check_page_size, encode_page_token
from services.registry.domain.alias import Alias, AliasMove, Move
from services.registry.domain.names import check_alias, check_reference
from services.registry.domain.pages import number_in, position_of
from services.registry.engines.changing import check_reason, mismatch
from services.registry.engines.reading import Reading
from services.registry.ports import AliasBook


@dataclass(frozen=True, slots=True)
class AliasPage:
    """A page of aliases."""

    aliases: Sequence[Alias]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class MovePage:
    """A page of an alias's moves."""

    moves: Sequence[AliasMove]
    next_page_token: str


class Aliasing:
    """The calls about aliases. `team` is the caller's; empty sees all."""

    def __init__(self, *, book: AliasBook, reading: Reading) -> None:
        self._book = book
        self._reading = reading

    async def point(self, move: Move, *, expected_version: str, etag: str, team: str) -> Alias:
        """Points an alias at a version. Raises VERSION_NOT_FOUND, and ETAG_MISMATCH where it is not as expected."""
        check_alias(move.alias)
        check_reason(move.reason)
        expected = check_reference(expected_version, "expected_version") if expected_version else ""
        target = await self._reading.version(move.model_name, move.version, team=team)
        revision = None
        if etag or expected:
            current = await self._book.find(move.model_name, move.alias, team=team)
            as_expected = current is not None and current.version == expected if expected else True
            as_read = current is not None and current.etag == etag if etag else True
            if not (as_expected and as_read):
                raise _moved(move)
            revision = current.revision if current is not None else 0
        pointed = await self._book.move(
            Move(move.model_name, move.alias, target.version, move.reason, move.moved_by), revision=revision
        )
        if pointed is None:
            raise _moved(move)
        return pointed

    async def get(self, model_name: str, alias: str, *, team: str) -> Alias:
        """The alias. Raises MODEL_NOT_FOUND, ALIAS_NOT_FOUND."""
        check_model_name(model_name)
        check_alias(alias)
        found = await self._book.find(model_name, alias, team=team)
        if found is None:
            await self._reading.model(model_name, team=team)
            raise MeshError(
                Reason.ALIAS_NOT_FOUND,
                f"model {model_name!r} has no alias {alias!r}; list its aliases to see their names",
                metadata={"model_name": model_name, "alias": alias},
            )
        return found

    async def page(self, model_name: str, *, page_size: int, page_token: str, team: str) -> AliasPage:
        """A page of a model's aliases, in alphabetical order. Raises MODEL_NOT_FOUND."""
        await self._reading.model(model_name, team=team)
        size, query = check_page_size(page_size), f"aliases\0{model_name}"
        (after,) = position_of(page_token, query=query, parts=1) or ("",)
        found = await self._book.page(model_name, after=after, limit=size + 1, team=team)
        shown = found[:size]
        return AliasPage(shown, encode_page_token(shown[-1].alias, query=query) if len(found) > size else "")

    async def drop(self, model_name: str, alias: str, *, etag: str, caller: str, team: str) -> None:
        """Takes an alias away. Raises ALIAS_NOT_FOUND, ETAG_MISMATCH."""
        current = await self.get(model_name, alias, team=team)
        if etag and etag != current.etag:
            raise mismatch(f"alias {alias!r} of model {model_name!r}")
        move = Move(model_name, alias, "", moved_by=caller)
        if await self._book.move(move, revision=current.revision if etag else None) is None:
            # Between the two someone else moved it, or took it away.
            await self.get(model_name, alias, team=team)
            raise mismatch(f"alias {alias!r} of model {model_name!r}")

    async def moves(self, model_name: str, alias: str, *, page_size: int, page_token: str, team: str) -> MovePage:
        """A page of an alias's moves, newest first; also of one that was taken away. Raises ALIAS_NOT_FOUND."""
        size, query = check_page_size(page_size), f"moves\0{model_name}\0{alias}"
        check_model_name(model_name)
        check_alias(alias)
        before = number_in(position_of(page_token, query=query, parts=1))
        found = await self._book.moves(model_name, alias, before=before, limit=size + 1, team=team)
        if not found:
            await self.get(model_name, alias, team=team)
        shown = found[:size]
        return MovePage(shown, encode_page_token(str(shown[-1].move_id), query=query) if len(found) > size else "")


def _moved(move: Move) -> MeshError:
    return mismatch(f"alias {move.alias!r} of model {move.model_name!r}")
