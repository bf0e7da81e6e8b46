"""What a part said last, as a sentence for a person: programs end in tracebacks, JSON logs and notes below both."""

import json
import re

SILENCE = "it said nothing"
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Exit|Interrupt|Failed|Timeout)\b(?:: .*)?")
_LENGTH_MAX = 500


def sentence_of(log_tail: str) -> str:
    """The last error of a log's last lines, else its last line."""
    lines = [line for line in log_tail.splitlines() if line.strip()]
    if not lines:
        return SILENCE
    entry = _entry(lines[-1])
    if entry is not None:
        text = _sentence_of_entry(entry)
    elif any(line.strip() == _TRACEBACK for line in lines):
        text = _raised(lines)
    else:
        text = lines[-1].strip()
    return text if len(text) <= _LENGTH_MAX else f"{text[: _LENGTH_MAX - 1]}…"


def _entry(line: str) -> dict[str, object] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _sentence_of_entry(entry: dict[str, object]) -> str:
    raised = entry.get("exception")
    if isinstance(raised, str) and raised.strip():
        return _raised(raised.splitlines())
    words = [entry[name] for name in ("event", "error", "message", "reason") if isinstance(entry.get(name), str)]
    return ": ".join(str(word) for word in words if word) or json.dumps(entry)


def _raised(lines: list[str]) -> str:
    """The last exception that is named below the last traceback: notes such as links to a manual may follow it."""
    begin = max((place for place, line in enumerate(lines) if line.strip() == _TRACEBACK), default=-1)
    below = [line.strip() for line in lines[begin + 1 :] if not line.startswith((" ", "\t"))]
    named = [line for line in below if _RAISED.fullmatch(line)]
    return named[-1] if named else below[-1] if below else lines[-1].strip()
