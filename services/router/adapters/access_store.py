"""What the registry said last of access, in PostgreSQL, in the form in which it travels."""

from collections.abc import Mapping

from google.protobuf.message import DecodeError
from infermesh.registry.v1 import team_service_pb2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.telemetry.logging import get_logger
from services.router.adapters.access import callers_from_proto, owners_from_proto, owners_to_proto
from services.router.adapters.postgres import transaction
from services.router.domain.access import Access, Callers, Owners

log = get_logger(__name__)

_CALLERS, _MODELS = "callers", "models"
_KEEP = text("""
    INSERT INTO access (part, stated) VALUES (:part, :stated)
    ON CONFLICT (part) DO UPDATE SET stated = excluded.stated, updated_at = now()
""")
_LOAD = text("SELECT part, stated FROM access")


class PostgresAccessStore:
    """An `AccessStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def load(self) -> Access | None:
        """What was kept last."""
        async with transaction(self._engine) as connection:
            kept = {row.part: bytes(row.stated) for row in await connection.execute(_LOAD)}
        try:
            return _access(kept)
        except DecodeError:
            log.warning("what was kept of access cannot be read; the registry's word is awaited")
            return None

    async def keep_callers(self, callers: Callers) -> None:
        """Keeps these."""
        message = team_service_pb2.WatchAccessResponse.FromString(callers.stated)
        # It may be that of an earlier word, where the last one had none that was of use.
        message.key_set = callers.key_set
        await self._keep(_CALLERS, message)

    async def keep_owners(self, owners: Owners) -> None:
        """Keeps these."""
        await self._keep(_MODELS, owners_to_proto(owners))

    async def _keep(self, part: str, message: team_service_pb2.WatchAccessResponse) -> None:
        stated = message.SerializeToString(deterministic=True)
        async with transaction(self._engine) as connection:
            await connection.execute(_KEEP, {"part": part, "stated": stated})


def _access(kept: Mapping[str, bytes]) -> Access | None:
    """Raises DecodeError."""
    parse = team_service_pb2.WatchAccessResponse.FromString
    if _CALLERS not in kept:
        return None
    callers = callers_from_proto(parse(kept[_CALLERS]))
    return Access(callers, owners_from_proto(parse(kept.get(_MODELS, b""))))
