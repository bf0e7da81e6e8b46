"""Structured logs: one JSON object a line on standard error, an event and its fields."""

import asyncio
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import orjson

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Logger:
    """Writes events. Field values are anything JSON or str can show; secrets never go in."""

    def __init__(self, target: logging.Logger) -> None:
        self._target = target

    def debug(self, event: str, **fields: object) -> None:
        """For whoever looks for the cause of something odd."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """A change of state that an operator would want to see in a timeline."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something went wrong and was dealt with."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something went wrong that a person must look at."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """As `error`, with the exception being handled."""
        self._write(logging.ERROR, event, fields, with_exception=True)

    def _write(self, level: int, event: str, fields: dict[str, object], *, with_exception: bool = False) -> None:
        if self._target.isEnabledFor(level):
            self._target.log(level, event, extra={"fields": fields}, exc_info=with_exception)


def get_logger(name: str) -> Logger:
    """The logger of a module; `name` is its `__name__`."""
    return Logger(logging.getLogger(name))


class JsonFormatter(logging.Formatter):
    """One JSON object a line. `context` adds fields of the moment, such as the trace id."""

    def __init__(self, *, service: str, instance: str, context: Callable[[], dict[str, str]] | None = None) -> None:
        super().__init__()
        self._constant = {"service": service, "instance": instance}
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._constant,
            "logger": record.name,
            "event": record.getMessage(),
        }
        if self._context is not None:
            entry.update(self._context())
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry.update(fields)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def no_cut_streams(record: logging.LogRecord) -> bool:
    """False for what grpc says of a stream that its server's stop cut off: it calls the cancellation an error."""
    kind = record.exc_info[0] if record.exc_info else None
    return not (record.name.startswith("grpc") and kind is not None and issubclass(kind, asyncio.CancelledError))


def configure_logging(*, service: str, instance: str, level: str) -> None:
    """Sends all logs of this process to standard error as JSON lines. Called once, in `__main__`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service=service, instance=instance))
    handler.addFilter(no_cut_streams)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LEVELS.get(level.lower(), logging.INFO))
    # Third parties speak up only when something is wrong.
    for name in ("sqlalchemy", "alembic", "grpc", "asyncio", "httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
