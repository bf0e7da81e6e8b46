"""What is noted in the audit log of models, versions and aliases, in the transaction that changes them.

The actor is the caller of the RPC that is being answered.
"""

from sqlalchemy.ext.asyncio import AsyncConnection

from services.registry.adapters.change_rows import NewChange, by_caller, note
from services.registry.convert.noting import noted_alias, noted_model, noted_version
from services.registry.domain.alias import Alias
from services.registry.domain.version import Model, Version


async def note_model(
    connection: AsyncConnection, before: Model | None, after: Model | None, *, action: str = "", reason: str = ""
) -> None:
    """A model that was made, changed or removed."""
    named = after or before
    assert named is not None
    change = NewChange(
        resource_type="model",
        resource_name=named.name,
        model_name=named.name,
        action=action or _action(before, after),
        reason=reason,
        before=noted_model(before) if before is not None else None,
        after=noted_model(after) if after is not None else None,
    )
    await note(connection, by_caller(change))


async def note_version(
    connection: AsyncConnection, before: Version | None, after: Version | None, *, action: str = "", reason: str = ""
) -> None:
    """A version that was registered, changed, moved to another stage or removed."""
    named = after or before
    assert named is not None
    if before is not None and after is not None and before.stage is not after.stage:
        action = action or "stage"
    change = NewChange(
        resource_type="version",
        resource_name=f"{named.model_name}@{named.version}",
        model_name=named.model_name,
        action=action or _action(before, after),
        actor=named.created_by if before is None and not action else "",
        reason=reason,
        before=noted_version(before) if before is not None else None,
        after=noted_version(after) if after is not None else None,
    )
    await note(connection, by_caller(change))


async def note_alias(
    connection: AsyncConnection, before: Alias | None, after: Alias | None, *, reason: str = ""
) -> None:
    """An alias that was made, moved or taken away."""
    named = after or before
    assert named is not None
    change = NewChange(
        resource_type="alias",
        resource_name=f"{named.model_name}/{named.alias}",
        model_name=named.model_name,
        action=_action(before, after),
        reason=reason,
        before=noted_alias(before) if before is not None else None,
        after=noted_alias(after) if after is not None else None,
    )
    await note(connection, by_caller(change))


def _action(before: object, after: object) -> str:
    return "created" if before is None else "deleted" if after is None else "updated"
