"""What every answer to bad input must be, whichever protocol it came by: a known refusal that gives nothing away."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

CALL_TIMEOUT_S = 10.0
"""No answer may take longer: whoever waits longer hangs."""

_INSIDE = {
    "a traceback": r"Traceback|File \"|, line \d+|object at 0x|<class '",
    "a path of the server": r"site-packages|/usr/lib|/home/|/work/|/tmp/|/root/|\w\.py\b",
    "SQL": r"(?i)\bselect .{0,200}\bfrom\b|\binsert into\b|\bupdate \w+ set\b|psycopg|sqlalchemy|postgres|sqlstate",
    "a name of the code": r"\b[A-Z][a-z]\w*(?:Error|Exception)\b|\bservices\.\w+|_pb2|grpc\.aio|asyncio|orjson",
}
"""What is inside, as a pattern that a message about the caller's own input does not fit."""
_PATTERNS = {what: re.compile(pattern) for what, pattern in _INSIDE.items()}


def given_away(text: str, *, sent: str = "") -> str:
    """What a message gives away of the inside, in words; empty where nothing. What was `sent` may be repeated."""
    for what, pattern in _PATTERNS.items():
        for match in pattern.finditer(text):
            if match[0] not in sent:
                return f"{what}: {match[0]!r} in {text[:1000]!r}"
    return ""


def faults_of_details(details: Sequence[Mapping[str, Any]], *, reason_wanted: bool = True) -> Iterator[str]:
    """What is wrong with the details of an error, in the form that REST has them."""
    infos = [one for one in details if str(one.get("@type", "")).endswith("google.rpc.ErrorInfo")]
    if reason_wanted and len(infos) != 1:
        yield f"has {len(infos)} reasons"
    if not any(info.get("reason") == "INVALID_FIELD" for info in infos):
        return
    named = [
        violation
        for one in details
        for violation in one.get("field_violations", ())
        if violation.get("field") and violation.get("description")
    ]
    if not named:
        yield "is INVALID_FIELD and names no field with its rule"
