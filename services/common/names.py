"""Names: what a model, a deployment and a version may be called, and how versions are ordered."""

import re
from dataclasses import dataclass
from functools import total_ordering

from services.common.errors import invalid

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_NAME_ALLOWED = "1 to 63 of a-z, 0-9, '-' and '_', beginning and ending with a letter or digit"
# The grammar of https://semver.org (2.0.0), with an optional leading v.
_VERSION = re.compile(
    r"v?(?P<major>0|[1-9]\d{0,8})\.(?P<minor>0|[1-9]\d{0,8})\.(?P<patch>0|[1-9]\d{0,8})"
    r"(?:-(?P<prerelease>(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+(?P<build>[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?"
)
_VERSION_ALLOWED = "a semantic version such as v1.2.3 or v1.2.3-rc.1, at most 64 characters"
_VERSION_LENGTH_MAX = 64
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")


def check_model_name(name: str, field: str = "model_name") -> str:
    """`name` itself. Raises INVALID_FIELD where no model may be called so."""
    return _check_name(name, field)


def check_deployment_name(name: str, field: str = "deployment_name") -> str:
    """`name` itself. Raises INVALID_FIELD where no deployment may be called so."""
    return _check_name(name, field)


def _check_name(name: str, field: str) -> str:
    # "--" separates model and version in the names that model servers see.
    if _NAME.fullmatch(name) is None or "--" in name:
        raise invalid(field, name, f"{_NAME_ALLOWED}, without '--'")
    return name


@total_ordering
@dataclass(frozen=True, slots=True)
class SemanticVersion:
    """A semantic version (semver.org 2.0.0). Ordered by precedence; build metadata is refused, because two versions
    that differ in it alone would be equal in precedence and yet not the same."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()

    @staticmethod
    def parse(text: str, field: str = "version") -> "SemanticVersion":
        """Reads `v1.2.3-rc.1` or the same without the v. Raises INVALID_FIELD for anything else."""
        match = _VERSION.fullmatch(text) if len(text) <= _VERSION_LENGTH_MAX else None
        if match is None:
            raise invalid(field, text, _VERSION_ALLOWED)
        if match["build"] is not None:
            raise invalid(field, text, f"{_VERSION_ALLOWED}, without build metadata (the part after '+')")
        return SemanticVersion(
            int(match["major"]),
            int(match["minor"]),
            int(match["patch"]),
            tuple(match["prerelease"].split(".")) if match["prerelease"] else (),
        )

    def __str__(self) -> str:
        tail = "-" + ".".join(self.prerelease) if self.prerelease else ""
        return f"v{self.major}.{self.minor}.{self.patch}{tail}"

    def __lt__(self, other: "SemanticVersion") -> bool:
        return self._precedence() < other._precedence()

    def _precedence(self) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]:
        # A release is above its pre-releases; numbers are below words and compare as numbers.
        identifiers = tuple((False, int(part), "") if part.isdigit() else (True, 0, part) for part in self.prerelease)
        return (self.major, self.minor, self.patch, not self.prerelease, identifiers)


def check_version(text: str, field: str = "version") -> str:
    """The canonical text of a semantic version, with its leading v. Raises INVALID_FIELD where it is none."""
    return str(SemanticVersion.parse(text, field))


def backend_model_name(model: str, version: str) -> str:
    """The name under which model servers know a version of a model."""
    return f"{model}--{version}"


def is_bucket(name: str) -> bool:
    """Whether a bucket of S3 or GCS may be called so."""
    return _BUCKET.fullmatch(name) is not None
