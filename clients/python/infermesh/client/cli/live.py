"""Following something in the terminal: drawn anew as it changes and as time passes, and left standing at the end."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeVar

from google.protobuf.message import Message
from infermesh.client.cli.quantities import now
from infermesh.client.cli.session import Session
from rich.console import RenderableType
from rich.live import Live

MessageT = TypeVar("MessageT", bound=Message)


def watched(
    session: Session,
    changes: Iterator[MessageT],
    render: Callable[[MessageT, datetime], RenderableType],
    *,
    line: Callable[[MessageT], str] | None = None,
) -> MessageT:
    """The last of `changes`, of which there is at least one.

    For scripts each is a line of JSON. A person sees the newest one, with the time running; where there is no terminal,
    the last one alone. Raises what `changes` raises; what was seen last is printed then too.

    With `line` the caller says itself how it ended, and where there is no terminal each change is the line, in rich
    markup, that this makes of it; an empty one is left out.
    """
    if session.output.as_json:
        for change in changes:
            session.output.line(change, "")
        return change
    seen: list[MessageT] = []
    try:
        with contextlib.ExitStack() as stack:
            for change in changes:
                seen[:] = [change]
                if session.output.err.is_terminal:
                    stack.enter_context(_live(session, lambda: render(seen[0], now())))
                    break
                if line is not None and (text := line(change)):
                    session.output.note(text)
            for change in changes:
                seen[:] = [change]
    finally:
        if seen and line is None:
            session.output.out.print(render(seen[0], now()))
    return seen[0]


def _live(session: Session, draw: Callable[[], RenderableType]) -> Live:
    return Live(console=session.output.err, transient=True, refresh_per_second=2, get_renderable=draw)
