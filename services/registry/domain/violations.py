"""Collecting everything that is wrong with a call, so that its caller mends it in one round."""

from collections.abc import Callable

from services.common.errors import FieldViolation, MeshError, invalid_fields, shown


class Violations:
    """What was found so far."""

    def __init__(self) -> None:
        self.found: list[FieldViolation] = []

    def unless(self, holds: bool, field: str, value: object, allowed: str) -> None:
        """Adds `field` where `holds` is false."""
        if not holds:
            self.found.append(FieldViolation(field, f"is {shown(value)}; allowed: {allowed}"))

    def at_most(self, field: str, text: str, characters: int) -> None:
        """Adds `field` where its text is too long, or holds what PostgreSQL cannot keep."""
        self.unless(len(text) <= characters, field, text, f"at most {characters} characters")
        self.unless("\0" not in text, field, text, "text without the character U+0000")

    def check(self, check: Callable[[], object]) -> None:
        """Adds what a check that raises INVALID_FIELD complains of."""
        try:
            check()
        except MeshError as error:
            self.found.extend(error.violations)

    def raise_if_any(self) -> None:
        """Raises INVALID_FIELD naming all of them."""
        if self.found:
            raise invalid_fields(self.found)


def check_texts(**texts: str) -> None:
    """Raises INVALID_FIELD naming every filter that is no short text."""
    violations = Violations()
    for field, text in texts.items():
        violations.at_most(field, text, 256)
    violations.raise_if_any()
