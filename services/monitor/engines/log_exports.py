"""Exports of the prediction log: asked for at any monitor, made by one that has time, gone on with where it dies."""

import asyncio
import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from services.common.access.book import EVERYTHING, Sight
from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_model_name
from services.common.telemetry.logging import get_logger
from services.monitor.domain.log_exports import LogExport, Part, format_of, output_folder
from services.monitor.domain.log_search import LogQuery, log_window
from services.monitor.ports_log import ExportFiles, ExportLease, ExportStore, LogReader, PartFile

log = get_logger(__name__)

_REQUEST_ID_MAX = 64
_LOOK_PERIOD_S = 2.0
_LEASE_S = 30.0
_PAGE_ROWS = 1000
_ATTEMPTS_MAX = 20
"""How often an export is begun without anything of it being written."""

T = TypeVar("T")


class _LostError(Exception):
    """Another monitor goes on with the export."""


class LogExports:
    """Takes exports and tells how far they are."""

    def __init__(self, *, store: ExportStore, files: ExportFiles, clock: Clock, retention_days: int) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._retention_days = retention_days

    async def create(
        self,
        model: str,
        *,
        start: datetime | None,
        end: datetime | None,
        kind: str,
        output_uri: str,
        request_id: str,
        created_by: str = "",
        team: str = "",
    ) -> LogExport:
        """Takes an export. Raises INVALID_FIELD, OUTPUT_UNWRITABLE where there is something at its output, and
        REQUEST_ID_REUSED."""
        if len(request_id) > _REQUEST_ID_MAX or "\0" in request_id:
            raise invalid("request_id", request_id, f"at most {_REQUEST_ID_MAX} characters")
        now = self._clock.now()
        for field, moment in (("start_time", start), ("end_time", end)):
            if moment is None:
                raise invalid(field, None, "a moment; exports have both ends")
        first, last = log_window(start, end, now=now, days_max=self._retention_days)
        if last > now:
            raise invalid("end_time", last.isoformat(), f"a moment before now ({now.isoformat(timespec='seconds')})")
        export = LogExport(
            f"export_{secrets.token_hex(12)}",
            check_model_name(model),
            first,
            last,
            format_of(kind),
            output_folder(output_uri),
            created_by,
            team,
            request_id,
        )
        made = await self._store.create(export)
        if made.export_id == export.export_id:
            # Once it is kept: of a call that is repeated the output may be there already.
            try:
                await asyncio.to_thread(self._files.check, export.output_uri)
            except MeshError:
                await self._store.withdraw(export.export_id)
                raise
        return made

    async def get(self, export_id: str, sight: Sight = EVERYTHING) -> LogExport:
        """One export. Raises LOG_EXPORT_NOT_FOUND, also where its model is none that the caller sees."""
        found = await self._store.get(export_id)
        if found is None or not sight.shows(found.model):
            raise MeshError(
                Reason.LOG_EXPORT_NOT_FOUND,
                f"there is no log export {export_id[:100]!r}; it is forgotten {self._retention_days} days after",
                metadata={"export_id": export_id[:100]},
            )
        return found

    async def keep(self) -> None:
        """Removes exports that ended long ago; their files stay."""
        await self._store.forget(before=self._clock.now() - timedelta(days=self._retention_days))


class ExportRunner:
    """Makes exports, one after the other; a background task of each monitor."""

    def __init__(
        self,
        *,
        store: ExportStore,
        reader: LogReader,
        files: ExportFiles,
        clock: Clock,
        owner: str,
        lease_s: float = _LEASE_S,
    ) -> None:
        self._store = store
        self._reader = reader
        self._files = files
        self._clock = clock
        self._owner = owner
        self._lease_s = lease_s

    async def run(self) -> None:
        """Looks for exports every two seconds."""
        while True:
            try:
                while await self.run_one():
                    pass
            except MeshError as error:
                log.warning("exports of the log not looked after; tried again", reason=error.message)
            await self._clock.sleep(_LOOK_PERIOD_S)

    async def run_one(self) -> bool:
        """Makes one export, or goes on with one; False where there is none to make."""
        lease = await self._store.claim(self._owner, lease_s=self._lease_s)
        if lease is None:
            return False
        try:
            await self._make(lease)
        except _LostError:
            log.warning("another monitor goes on with an export of the log", export=lease.export.export_id)
        except MeshError as error:
            passing = error.reason is Reason.DEPENDENCY_UNAVAILABLE and lease.attempts < _ATTEMPTS_MAX
            log.warning("an export of the log broke", export=lease.export.export_id, reason=error.message)
            if not passing:
                await self._store.end(lease, rows=0, failure=error.message)
            # What may pass is tried again once the lease is over.
        except Exception:
            error_id = secrets.token_hex(8)
            log.exception("unforeseen failure of an export", export=lease.export.export_id, error_id=error_id)
            words = f"an unforeseen failure; give the operator its id: {error_id}"
            await self._store.end(lease, rows=0, failure=words)
        return True

    async def _make(self, lease: ExportLease) -> None:
        export, part = lease.export, lease.part
        query = LogQuery(export.model, export.start, export.end)
        if part.number == 0 and not part.planned:
            await self._in_thread(lease, lambda: self._files.check(export.output_uri))
        total = export.row_count
        while True:
            if not part.planned:
                last = await self._reader.place(query, after=part.after, number=export.format.rows_max)
                _held(await self._store.plan(lease, last))
                part = replace(part, last=last, planned=True)
            rows = await self._write(lease, query, part)
            total += rows
            if part.last is None:
                files = part.number + (1 if rows or part.number == 0 else 0)
                summary = {"export_id": export.export_id, "files": files, "rows": total}
                await self._in_thread(lease, lambda: self._files.finish(export.output_uri, json.dumps(summary)))  # noqa: B023
                _held(await self._store.end(lease, rows=rows))
                log.info("the log was exported", export=export.export_id, rows=total, files=files)
                return
            _held(await self._store.written(lease, number=part.number, rows=rows, after=part.last))
            part = Part(part.number + 1, part.last, None, planned=False)

    async def _write(self, lease: ExportLease, query: LogQuery, part: Part) -> int:
        """Writes a file; how many rows it has. None is written where it would have none, but the first."""
        after, count = part.after, 0
        file: PartFile | None = None
        try:
            while page := await self._reader.oldest(query, after=after, last=part.last, limit=_PAGE_ROWS):
                if file is None:
                    file = await self._begin(lease, part)
                rows, ids = [found.row for found in page], [found.position.row_id for found in page]
                await asyncio.to_thread(file.write, rows, ids)
                _held(await self._store.renew(lease, lease_s=self._lease_s))
                count, after = count + len(page), page[-1].position
                if len(page) < _PAGE_ROWS:
                    break
            if file is None and part.number == 0:
                file = await self._begin(lease, part)
            if file is not None:
                await self._in_thread(lease, file.place)
        finally:
            if file is not None:
                await asyncio.shield(asyncio.to_thread(file.discard))
        return count

    async def _begin(self, lease: ExportLease, part: Part) -> PartFile:
        export = lease.export
        name = part.name(export.format)
        return await asyncio.to_thread(self._files.begin, export.output_uri, name, export.format, model=export.model)

    async def _in_thread(self, lease: ExportLease, work: Callable[[], T]) -> T:
        """Runs what may take long, and keeps the export meanwhile."""
        running = asyncio.ensure_future(asyncio.to_thread(work))
        while not (await asyncio.wait({running}, timeout=self._lease_s / 3))[0]:
            await self._store.renew(lease, lease_s=self._lease_s)
        return await running


def _held(recorded: bool) -> None:
    if not recorded:
        raise _LostError
