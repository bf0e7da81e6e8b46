"""Delivers what waits in the outbox, until it has arrived or is a day old.

A letter is written with the change that it tells of and is done with only after its receiver has taken it, so none is
lost with a process. One whose process died between the two is delivered again, under the same id.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping
from typing import Generic

from services.common.clock import Clock
from services.common.delivery.letters import Courier, DeliveryBoard, L, Outbox, UndeliveredError
from services.common.delivery.pace import Outcome, again_after_s
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

DELIVERY_TIMEOUT_S = 15.0
_HOLD_S = 60.0
"""For how long a letter is a process's own: longer than a delivery may take."""
_AT_ONCE = 8
_POSTPONED = "postponed"


class Notifier(Generic[L]):
    """Owns the deliveries of this process. Several may share an outbox. `about` says of which letter the log speaks."""

    def __init__(
        self,
        *,
        outbox: Outbox[L],
        couriers: Mapping[str, Courier[L]],
        about: Callable[[L], Mapping[str, str]],
        board: DeliveryBoard,
        clock: Clock,
        rng: random.Random,
        period_s: float,
    ) -> None:
        self._outbox = outbox
        self._couriers = couriers
        self._about = about
        self._board = board
        self._clock = clock
        self._rng = rng
        self._period_s = period_s

    async def run(self) -> None:
        """Delivers until it is cancelled."""
        while True:
            taken = 0
            try:
                taken = await self.deliver_due()
            except MeshError as error:
                log.info("the store is away; notifications wait for it", why=error.message)
            if taken < _AT_ONCE:
                await self._clock.sleep(self._period_s)

    async def deliver_due(self) -> int:
        """Tries some letters that are due; how many. Raises MeshError."""
        letters = await self._outbox.take(limit=_AT_ONCE, hold_s=_HOLD_S)
        if letters:
            await asyncio.gather(*(self._try(letter) for letter in letters))
        self._board.letters_waiting(await self._outbox.waiting())
        return len(letters)

    async def _try(self, letter: L) -> None:
        trouble = await attempt(self._couriers, letter)
        facts = {"notice_id": letter.notice_id, "means": letter.means, "tries": letter.tries, **self._about(letter)}
        try:
            if trouble is None:
                await self._outbox.end(letter, Outcome.SENT)
                self._board.told(letter.means, Outcome.SENT)
                log.info("notification was sent", **facts)
                return
            age_s = (self._clock.now() - letter.created_at).total_seconds()
            after_s = again_after_s(letter.tries, age_s, trouble.asked_s, self._rng.random())
            if trouble.passing and after_s is not None:
                await self._outbox.postpone(letter, after_s=after_s, why=trouble.why)
                self._board.told(letter.means, _POSTPONED)
                log.warning("notification is tried again", **facts, why=trouble.why, after_s=round(after_s, 1))
            else:
                await self._outbox.end(letter, Outcome.GIVEN_UP, why=trouble.why)
                self._board.told(letter.means, Outcome.GIVEN_UP)
                log.warning("notification is given up", **facts, why=trouble.why)
        except MeshError as error:
            log.warning("what became of a notification is not recorded; it is tried again", **facts, why=error.message)


async def attempt(couriers: Mapping[str, Courier[L]], letter: L) -> UndeliveredError | None:
    """Delivers a letter by its means; why it did not arrive, None where it did."""
    courier = couriers.get(letter.means)
    if courier is None:
        # The operator took the means away, and may bring it back within the day.
        return UndeliveredError(f"{letter.means} is not set up here any more", passing=True)
    try:
        async with asyncio.timeout(DELIVERY_TIMEOUT_S):
            await courier.deliver(letter)
    except UndeliveredError as error:
        return error
    except TimeoutError:
        return UndeliveredError(f"no answer within {DELIVERY_TIMEOUT_S:g} s", passing=True)
    except Exception:
        error_id = secrets.token_hex(6)
        log.exception("delivery failed unforeseen", notice_id=letter.notice_id, error_id=error_id)
        return UndeliveredError(f"an unforeseen failure; the log has it under error_id {error_id}", passing=True)
    return None
