"""What a command prints: JSON on standard output for scripts, tables for people, everything else on standard error.

The JSON is that of the REST API: snake_case names, unset fields with their defaults, times as RFC 3339. It is stable;
fields may be added, none changes its meaning.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.client.cli.failures import paragraph
from infermesh.client.errors import InfermeshError
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

JsonValue = Mapping[str, object] | Sequence[object]
_BARS = "▁▂▃▄▅▆▇█"


class Output:
    """Where one command's results go."""

    def __init__(self, *, as_json: bool, out: Console | None = None, err: Console | None = None) -> None:
        self.as_json = as_json
        self.out = out or Console(soft_wrap=True, highlight=False)
        self.err = err or Console(stderr=True, soft_wrap=True, highlight=False)

    def result(self, value: Message | JsonValue, render: Callable[[], RenderableType]) -> None:
        """The command's result: `value` for scripts, what `render` makes of it for people."""
        if self.as_json:
            self.out.file.write(json.dumps(to_json(value), indent=2, ensure_ascii=False) + "\n")
        else:
            self.out.print(render())

    def line(self, value: Message | JsonValue, text: str) -> None:
        """One step of a stream of results: a JSON object on a line of its own, or a line of rich markup."""
        if self.as_json:
            self.out.file.write(json.dumps(to_json(value), ensure_ascii=False) + "\n")
            self.out.file.flush()
        else:
            self.out.print(text)

    def note(self, text: str) -> None:
        """Something for people only, as rich markup; scripts never see it."""
        if not self.as_json:
            self.err.print(text)

    def failure(self, error: InfermeshError) -> None:
        """Why the command failed, on standard error."""
        if self.as_json:
            self.err.file.write(json.dumps({"error": error.to_dict()}, ensure_ascii=False) + "\n")
        else:
            self.err.print(paragraph(error))


def to_json(value: Message | JsonValue) -> JsonValue:
    """Plain JSON values of a message or of a structure that may contain messages."""
    if isinstance(value, Message):
        return message_to_json(value)
    if isinstance(value, Mapping):
        return {str(key): _inner(item) for key, item in value.items()}
    return [_inner(item) for item in value]


def message_to_json(message: Message) -> dict[str, object]:
    """A message as the REST API prints it."""
    converted: dict[str, object] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return converted


def _inner(value: object) -> object:
    if isinstance(value, Message | Mapping):
        return to_json(value)
    if isinstance(value, list | tuple):
        return [_inner(item) for item in value]
    return value


def table(
    *columns: str, right: Iterable[str] = (), whole: Iterable[str] = (), least: Mapping[str, int] | None = None
) -> Table:
    """An empty table in the manner of all others; `right` names the columns of numbers.

    The first column is what names a row, to be pasted: it is never broken, and neither are those in `whole`. Where the
    terminal is narrow, the others fold between words, to no fewer characters than `least` gives a column.
    """
    aligned_right, never_broken = set(right), {*columns[:1], *whole}
    made = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in aligned_right else "left"
        made.add_column(
            column,
            justify=justify,
            overflow="fold",
            no_wrap=column in never_broken,
            min_width=(least or {}).get(column),
        )
    return made


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values of one thing; empty values are left out."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="bold")
    made.add_column(overflow="fold")
    for name, value in rows:
        if value:
            made.add_row(name, value)
    return made


def when(timestamp: Timestamp) -> str:
    """A time for people, in UTC, to the second; empty when unset."""
    if timestamp.seconds == 0 and timestamp.nanos == 0:
        return ""
    return datetime.fromtimestamp(timestamp.seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def state(word: str) -> str:
    """A status word in its colour, as rich markup."""
    colour = _COLOURS.get(word)
    return f"[{colour}]{word}[/]" if colour else word


_COLOURS = {
    **dict.fromkeys(("active", "completed", "healthy", "ready", "answers", "connected", "sent"), "green"),
    **dict.fromkeys(("pending", "deploying", "running", "terminating", "degraded", "draft", "behind"), "yellow"),
    **dict.fromkeys(("failed", "unhealthy", "away", "given_up"), "red"),
    **dict.fromkeys(("cancelled", "archived", "deprecated"), "dim"),
    **dict.fromkeys(("promoted", "passing", "passed", "resolved", "better", "winner"), "green"),
    **dict.fromkeys(("paused", "held", "waiting", "acknowledged", "warning", "not_enough_data"), "yellow"),
    **dict.fromkeys(("rolled_back", "breached", "firing", "critical", "worse"), "red"),
    **dict.fromkeys(("aborted", "stopped", "inconclusive", "no_difference", "info"), "dim"),
}


def bar(fraction: float, *, width: int = 20) -> str:
    """A horizontal bar for a share between 0 and 1, exact to an eighth of a character."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def sparkline(values: Sequence[float]) -> str:
    """A line of small bars, the greatest value as the highest; empty for no values."""
    top = max(values, default=0.0)
    if top <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(len(_BARS) - 1, int(value / top * (len(_BARS) - 1) + 0.5))] for value in values)


def quantity(size_bytes: float) -> str:
    """A number of bytes for people: "4.3 KB"."""
    size = float(size_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
