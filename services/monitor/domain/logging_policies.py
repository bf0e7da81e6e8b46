"""What of a version's requests is logged. A version has its own policy, else its model's, else the default."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from services.common.errors import FieldViolation, invalid, invalid_fields, shown

FIELDS = ("sample_rate", "log_input_hash", "log_output", "redacted_fields")
"""What can be changed."""
REDACTED_MAX = 100
NAME_LENGTH_MAX = 256


@dataclass(frozen=True, slots=True)
class LoggingPolicy:
    """A policy; version "": of all versions of the model without one of their own."""

    model: str
    version: str
    sample_rate: float
    log_input_hash: bool = False
    log_output: bool = False
    redacted_fields: tuple[str, ...] = ()
    revision: int = 0
    """Counts its changes. 0: it was never set, and what it says is its model's or the default."""


class PolicyBook:
    """All policies that are known."""

    def __init__(self, *, default_rate: float) -> None:
        self._default_rate = default_rate
        self._known: dict[tuple[str, str], LoggingPolicy] = {}

    def put(self, policies: Iterable[LoggingPolicy]) -> None:
        """These are what they are now."""
        self._known.update({(policy.model, policy.version): policy for policy in policies})

    def rate(self, model: str, version: str) -> float:
        """The share of a version's successful requests that is logged."""
        found = self._known.get((model, version)) or self._known.get((model, ""))
        return self._default_rate if found is None else found.sample_rate


def effective(
    model: str, version: str, *, own: LoggingPolicy | None, models: LoggingPolicy | None, default_rate: float
) -> LoggingPolicy:
    """What holds for a version, or for a model where the version is empty."""
    if own is not None:
        return own
    if models is not None:
        return replace(models, version=version, revision=0)
    return LoggingPolicy(model, version, default_rate)


def changed(current: LoggingPolicy, sent: LoggingPolicy, fields: Collection[str]) -> LoggingPolicy:
    """`current` with these fields, or all where there are none, as `sent` has them. Raises INVALID_FIELD."""
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise invalid("update_mask", unknown[0], "paths of " + ", ".join(FIELDS))
    values = {name: getattr(sent, name) for name in fields or FIELDS}
    made = replace(current, **values)
    _check(made)
    return made


def _check(policy: LoggingPolicy) -> None:
    wrong: list[FieldViolation] = []

    def refuse(field: str, value: object, allowed: str) -> None:
        wrong.append(FieldViolation(f"logging_policy.{field}", f"is {shown(value)}; allowed: {allowed}"))

    if not (math.isfinite(policy.sample_rate) and 0 <= policy.sample_rate <= 1):
        refuse("sample_rate", policy.sample_rate, "0 to 1, the share of the successful requests that is logged")
    names = policy.redacted_fields
    if len(names) > REDACTED_MAX:
        refuse("redacted_fields", f"{len(names)} names", f"at most {REDACTED_MAX}")
    for place, name in enumerate(names):
        if not 1 <= len(name) <= NAME_LENGTH_MAX or "\0" in name:
            refuse(f"redacted_fields[{place}]", name, f"the name of an output, of 1 to {NAME_LENGTH_MAX} characters")
        elif name in names[:place]:
            refuse(f"redacted_fields[{place}]", name, "each name once")
    if wrong:
        raise invalid_fields(wrong)
