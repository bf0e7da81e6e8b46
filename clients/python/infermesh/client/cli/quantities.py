"""Lengths of time, moments, shares and percents as people type them, and lengths of time as people read them."""

import re
from datetime import UTC, datetime, timedelta

import typer
from google.protobuf.timestamp_pb2 import Timestamp

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PART = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)([smhd])")
_LENGTH = re.compile(rf"(?:{_PART.pattern})+")
_PERCENT = re.compile(r"(\d{1,3})\s*%?")


def parse_length(text: str, option: str, *, example: str = "30m, 2h or 1d") -> timedelta:
    """The length of time that "90s", "30m", "1h30m" or "1.5d" names. Raises typer.BadParameter; none is 0 long."""
    plain = text.strip().lower()
    if _LENGTH.fullmatch(plain):
        total_s = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(plain))
        if total_s > 0:
            return timedelta(seconds=total_s)
    raise typer.BadParameter(f"{text!r} is no length of time; say for instance {example}", param_hint=option)


def parse_percent(text: str, option: str, *, least: int = 0) -> int:
    """The whole percent that "10%" or "10" names. Raises typer.BadParameter."""
    match = _PERCENT.fullmatch(text.strip())
    if match is None or not least <= int(match[1]) <= 100:
        raise typer.BadParameter(
            f"{text!r} is no percentage; say a whole number from {least} to 100, for instance 10%", param_hint=option
        )
    return int(match[1])


def parse_fraction(text: str, option: str) -> float:
    """The share from 0 to 1 that "0.01" or "1%" names. Raises typer.BadParameter."""
    plain = text.strip()
    value = parse_number(plain.removesuffix("%"), option, what="a share", example="1% or 0.01")
    if plain.endswith("%"):
        value /= 100
    if not 0 <= value <= 1:
        raise typer.BadParameter(
            f"{text!r} is no share; say 0% to 100%, or a number from 0 to 1, for instance 1% or 0.01", param_hint=option
        )
    return value


def parse_number(text: str, option: str, *, what: str = "a number", example: str = "0.5") -> float:
    """A finite number. Raises typer.BadParameter."""
    if re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", text.strip()) is None:
        raise typer.BadParameter(f"{text!r} is not {what}; say for instance {example}", param_hint=option)
    return float(text)


def parse_moment(text: str, option: str) -> datetime:
    """A moment in RFC 3339, which has a zone. Raises typer.BadParameter."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} is no moment with a time zone; say for instance 2026-02-05T10:00:00Z", param_hint=option
        )
    return moment


def now() -> datetime:
    """The moment, in UTC."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp.ToDatetime(UTC)


def length(seconds: float) -> str:
    """A length of time for people, in its two largest units: "1d 4h", "2h 05m", "9m 30s", "4s"."""
    whole = max(0, round(seconds))
    for size, unit, smaller, smaller_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            padded = f"{rest:02}" if smaller_unit != "h" else str(rest)
            return f"{whole // size}{unit} {padded}{smaller_unit}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"
