"""Sharing models with other teams, and giving them away."""

from services.common.errors import MeshError, Reason, invalid
from services.common.grpc.identity import ANONYMOUS, Identity
from services.common.names import check_model_name
from services.registry.domain.access import (
    ModelAccess,
    author_of,
    check_model_admin,
    check_owns,
    is_seen,
    viewer_of,
)
from services.registry.domain.teams import check_team_name
from services.registry.domain.version import Model
from services.registry.engines.reading import Reading, no_model
from services.registry.ports_teams import SharingBook


class Sharing:
    """The calls about whose models are. Each raises MODEL_NOT_FOUND for what the caller does not see."""

    def __init__(self, book: SharingBook, *, reading: Reading) -> None:
        self._book = book
        self._reading = reading

    async def share(self, model_name: str, team: str, *, caller: Identity) -> Model:
        """Lets a team read and call a model. Raises INVALID_FIELD, TEAM_NOT_FOUND, PERMISSION_DENIED."""
        access = await self._administered(model_name, team, caller)
        if not access.team:
            raise invalid(
                "model_name", model_name, "a model of a team; this one has none, so everybody sees it already"
            )
        if access.team == team:
            raise invalid("team", team, "another team than the one that owns the model")
        await self._book.share(model_name, team, owner=access.team, author=author_of(caller))
        return await self._reading.model(model_name, team=viewer_of(caller))

    async def unshare(self, model_name: str, team: str, *, caller: Identity) -> Model:
        """Takes that back; nothing where it was not so."""
        access = await self._administered(model_name, team, caller)
        await self._book.unshare(model_name, team, owner=access.team, author=author_of(caller))
        return await self._reading.model(model_name, team=viewer_of(caller))

    async def transfer(self, model_name: str, team: str, *, caller: Identity) -> Model:
        """Makes a model another team's. Raises TEAM_NOT_FOUND, QUOTA_EXCEEDED where that has no room for it.

        The answer shows the model as it is, also to the caller to whom it belongs no more.
        """
        access = await self._administered(model_name, team, caller)
        await self._book.transfer(model_name, team, owner=access.team, author=author_of(caller))
        return await self._reading.model(model_name, team="")

    async def check_owned(self, model_name: str, *, caller: Identity) -> None:
        """Raises MODEL_NOT_FOUND or PERMISSION_DENIED where the caller may not change a model."""
        if not caller.unbounded:
            check_model_name(model_name)
            check_owns(caller, model_name, (await self._seen(model_name, caller)).team)

    async def _administered(self, model_name: str, team: str, caller: Identity) -> ModelAccess:
        check_model_name(model_name)
        check_team_name(team, "team")
        access = await self._seen(model_name, caller)
        check_model_admin(caller, model_name, access.team)
        return access

    async def _seen(self, model_name: str, caller: Identity) -> ModelAccess:
        access = await self._book.access(model_name)
        if access is None or not is_seen(viewer_of(caller), model_name, access.team, access.shared_with):
            raise no_model(model_name)
        return access


def check_registers(caller: Identity) -> None:
    """Raises PERMISSION_DENIED for who has no team to register for: models of nobody are the operators' alone."""
    if caller.role == ANONYMOUS or not (caller.team or caller.unbounded):
        raise MeshError(
            Reason.PERMISSION_DENIED,
            "only members of a team register models; exchange your token for one of your team's",
        )
