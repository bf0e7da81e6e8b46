"""What the engines of the prediction log need from outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.monitor.domain.log_exports import Format, LogExport, Part
from services.monitor.domain.log_rows import LogRow
from services.monitor.domain.log_search import FoundRow, LogQuery, Position
from services.monitor.domain.logging_policies import LoggingPolicy

Rows = Sequence[FoundRow]


class PolicyStore(Protocol):
    """Logging policies. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot be reached."""

    async def get(self, model: str, version: str) -> LoggingPolicy | None:
        """The policy that was set for that version, or model where the version is empty; None: none was."""
        ...

    async def put(self, policy: LoggingPolicy, *, expected: int) -> LoggingPolicy | None:
        """Stores a policy in place of its revision `expected`, 0 for none; None where there is another."""
        ...

    async def changed(self, *, after: int, limit: int) -> Sequence[tuple[int, LoggingPolicy]]:
        """Policies that changed after that change, each as it is now, in the order of their last change."""
        ...


@dataclass(frozen=True, slots=True)
class Losses:
    """What is missing in the log."""

    dropped: int
    """Requests that batchers dropped: they are not counted either."""
    unkept: int
    """Requests that are counted and were to be logged one by one, and found no room."""


class LogReader(Protocol):
    """The log as it is stored. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot be read."""

    async def newest(self, query: LogQuery, *, before: Position | None, limit: int) -> Rows:
        """Rows, newest first, from behind that one."""
        ...

    async def oldest(self, query: LogQuery, *, after: Position | None, last: Position | None, limit: int) -> Rows:
        """Rows, oldest first, behind `after` and up to and with `last`."""
        ...

    async def place(self, query: LogQuery, *, after: Position | None, number: int) -> Position | None:
        """The row that is so many behind `after`; None where there are fewer."""
        ...

    async def losses(self, *, since: datetime) -> Losses:
        """What is missing since then, over all models."""
        ...


@dataclass(frozen=True, slots=True)
class ExportLease:
    """An export that is being made by whoever has the newest token."""

    export: LogExport
    token: int
    part: Part
    attempts: int
    """How often it was begun since something of it was written."""


class ExportStore(Protocol):
    """Exports. Raises MeshError DEPENDENCY_UNAVAILABLE where it cannot be reached. What is written with a lease answers
    False where another has it now."""

    async def create(self, export: LogExport) -> LogExport:
        """Keeps an export, or gives the one that the same caller made by the same request id. Raises REQUEST_ID_REUSED
        where that asked for something else, OUTPUT_UNWRITABLE where another is writing there."""
        ...

    async def withdraw(self, export_id: str) -> None:
        """Forgets an export that nobody has begun."""
        ...

    async def get(self, export_id: str) -> LogExport | None:
        """One export; None where there is none of that id."""
        ...

    async def claim(self, owner: str, *, lease_s: float) -> ExportLease | None:
        """The oldest export that waits, or that nobody is heard of any more; None: there is none."""
        ...

    async def renew(self, lease: ExportLease, *, lease_s: float) -> bool:
        """Keeps it for longer."""
        ...

    async def plan(self, lease: ExportLease, last: Position | None) -> bool:
        """Settles up to where the file under way goes; None: to the end."""
        ...

    async def written(self, lease: ExportLease, *, number: int, rows: int, after: Position) -> bool:
        """The file of that number is there; the next one begins behind `after`."""
        ...

    async def end(self, lease: ExportLease, *, rows: int, failure: str = "") -> bool:
        """It is complete, with so many rows in its last file, or failed."""
        ...

    async def forget(self, *, before: datetime) -> None:
        """Removes exports that ended before that moment; their files stay."""
        ...


class PartFile(Protocol):
    """A file that is being written. Its methods hold their thread."""

    def write(self, rows: Sequence[LogRow], ids: Sequence[str]) -> None:
        """Adds rows."""
        ...

    def place(self) -> None:
        """Makes it appear under its name, whole, in place of one that is there."""
        ...

    def discard(self) -> None:
        """Leaves nothing of it behind. Does nothing where it is placed."""
        ...


class ExportFiles(Protocol):
    """Where files go. Its methods hold their thread, and raise MeshError OUTPUT_UNWRITABLE, or DEPENDENCY_UNAVAILABLE
    for what may pass."""

    def check(self, folder: str) -> None:
        """Raises OUTPUT_UNWRITABLE where there is something in the folder, or it cannot be written to."""
        ...

    def begin(self, folder: str, name: str, kind: Format, *, model: str) -> PartFile:
        """A file of that name."""
        ...

    def finish(self, folder: str, summary: str) -> None:
        """Says that all is there."""
        ...
