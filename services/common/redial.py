"""Following another service for ever: dialled again where it is away, and told of in the log once for each time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn, TypeVar

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")
_AGAIN_MIN_S = 0.1
_AGAIN_MAX_S = 2.0


async def follow(
    watch: Callable[[], AsyncIterator[T]], take: Callable[[T], Awaitable[None]], *, clock: Clock, who: str, what: str
) -> NoReturn:
    """Hands on what each stream of `watch` says, and opens another where one ends or raises MeshError, after a pause
    that doubles from 0.1 to 2 s. `who` says it and `what` it is, for the log."""
    delay_s, away = _AGAIN_MIN_S, False
    while True:
        try:
            async for update in watch():
                await take(update)
                if away:
                    log.info(f"the {who} is heard again", of=what)
                delay_s, away = _AGAIN_MIN_S, False
            error = "the stream ended"
        except MeshError as failure:
            error = failure.message
        if not away:
            log.warning(f"the {who} is away; what it said last holds", of=what, error=error)
        away = True
        await clock.sleep(delay_s)
        delay_s = min(delay_s * 2, _AGAIN_MAX_S)
