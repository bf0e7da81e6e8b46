"""The batchers that are connected: what each is told, and what each has acknowledged."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.signals import Signal
from services.common.telemetry.logging import get_logger
from services.router.domain.table import ServingTable, TableStep, step

log = get_logger(__name__)


@dataclass(slots=True, eq=False)
class Session:
    """One stream of one batcher."""

    batcher_id: str
    address: str
    connected_at: datetime
    sent: ServingTable
    acknowledged_revision: int = 0
    refused_revision: int = 0
    error_message: str = ""
    revoked: tuple[str, ...] = ()
    """The revoked keys that it was told of."""
    over: bool = False
    """The stream is to end: the batcher has opened another one since, or the router stops."""

    @property
    def answered_revision(self) -> int:
        """The newest revision that it took or refused."""
        return max(self.acknowledged_revision, self.refused_revision)


class Batchers:
    """Tells every batcher the newest table. A batcher that connects before the first one is known waits for it."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._table = ServingTable()
        self._revoked: tuple[str, ...] = ()
        self._sessions: dict[Session, None] = {}
        self._changed = Signal()
        self._closing = False

    @property
    def table(self) -> ServingTable:
        """What batchers are told now; revision 0 before the first `tell`."""
        return self._table

    @property
    def changed(self) -> Signal:
        """Fires whenever a batcher came, went or answered, and with every new table."""
        return self._changed

    @property
    def connected(self) -> Sequence[Session]:
        """Every batcher that is connected, by name."""
        return sorted(self._sessions, key=lambda session: (session.batcher_id, session.address))

    def tell(self, table: ServingTable) -> None:
        """Makes `table` the newest. Its revision is greater than that of the one before."""
        assert table.revision > self._table.revision
        self._table = table
        self._changed.fire()

    def revoke(self, keys: tuple[str, ...]) -> None:
        """Makes these the keys that are revoked: streams of predictions that they opened end. Batchers are told with a
        table or after it, never before."""
        if keys != self._revoked:
            self._revoked = keys
            self._changed.fire()

    async def acknowledged(self, revision: int, *, timeout_s: float) -> Sequence[str]:
        """Returns when every connected batcher has taken or refused `revision`, or after `timeout_s` seconds; the names
        of those that have not taken it."""

        def answered() -> bool:
            return all(session.answered_revision >= revision for session in self._sessions)

        await self._changed.until(answered, timeout_s=timeout_s)
        return [session.batcher_id for session in self.connected if session.acknowledged_revision < revision]

    async def someone(self, *, timeout_s: float) -> bool:
        """Returns when a batcher is connected, or after `timeout_s` seconds; whether one is."""
        return await self._changed.until(lambda: bool(self._sessions), timeout_s=timeout_s)

    def connect(self, batcher_id: str, address: str) -> Session:
        """A batcher opened a stream. An older one of the same batcher at the same address counts no more.

        Raises INVALID_FIELD without a name, SHUTTING_DOWN where the router stops.
        """
        if self._closing:
            raise MeshError(Reason.SHUTTING_DOWN, "the router stops; dial again in a moment", retry_after_s=1.0)
        if not batcher_id:
            raise invalid("batcher_id", batcher_id, 'a stable name such as "batcher-0"')
        for session in list(self._sessions):
            if (session.batcher_id, session.address) == (batcher_id, address):
                session.over = True
                self._sessions.pop(session)
        session = Session(batcher_id, address, self._clock.now(), ServingTable())
        self._sessions[session] = None
        log.info("batcher connected", batcher=batcher_id, address=address, batchers=len(self._sessions))
        self._changed.fire()
        return session

    def end(self, session: Session) -> None:
        """Has the stream end."""
        session.over = True
        self._changed.fire()

    def disconnect(self, session: Session) -> None:
        """The stream ended."""
        if self._sessions.pop(session, session) is None:
            log.info("batcher left", batcher=session.batcher_id, batchers=len(self._sessions))
            self._changed.fire()

    async def close(self) -> None:
        """Ends all streams, so that a stop need not wait for them. Batchers keep what they have and dial again."""
        self._closing = True
        for session in self._sessions:
            session.over = True
        self._changed.fire()

    def answer(self, session: Session, *, acknowledged_revision: int, error_message: str) -> None:
        """What the batcher says of what it was sent. Raises INVALID_FIELD where it was sent no such revision."""
        if not 0 <= acknowledged_revision <= session.sent.revision:
            raise invalid(
                "acknowledged_revision", acknowledged_revision, f"0 to {session.sent.revision}, the last sent"
            )
        session.acknowledged_revision = max(session.acknowledged_revision, acknowledged_revision)
        session.error_message = error_message
        if error_message:
            session.refused_revision = session.sent.revision
            log.warning(
                "a batcher refused the serving table",
                batcher=session.batcher_id,
                revision=session.refused_revision,
                error=error_message,
            )
        self._changed.fire()

    async def steps(self, session: Session) -> AsyncIterator[TableStep]:
        """The whole table, then every change, several as one where the batcher is slow. Ends with the session."""
        while not session.over:
            changed = self._changed.current
            newest, revoked = self._table, self._revoked
            if newest.revision > session.sent.revision or (session.sent.revision and revoked != session.revoked):
                next_step = step(session.sent, newest)
                if revoked != session.revoked:
                    next_step = replace(next_step, revoked=revoked)
                session.sent, session.revoked = newest, revoked
                yield next_step
                continue
            await changed.wait()
