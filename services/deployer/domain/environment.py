"""What must be installed for a version to run: exactly the framework's lock file, or what the version itself asks for.

A version says so in its metadata (`requirements`, a list of lines as pip reads them), in a `requirements.txt` of its
folder, and by its framework's version. Wheels alone are ever installed, so that an installation runs no code; and what
has nothing to do with the framework is installed only for models that are Python code themselves, which run what they
bring anyway.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from services.common.errors import MeshError, Reason

REQUIREMENTS_MAX = 500
_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s+--hash[=\s].*$")
_LEFT_OUT_SHOWN = 10
_LINE_LENGTH_MAX = 1000
_NUMPY = SpecifierSet("<2")
"""Triton's python backend answers zero-length tensors under numpy 2."""


@dataclass(frozen=True, slots=True)
class Framework:
    """What an environment of a framework is made of."""

    package: str
    """The package whose version `framework_version` means; empty: none."""
    needs: tuple[str, ...]
    """What the runner's adapter imports, as requirements without a version."""
    aliases: Mapping[str, str]
    """Packages that are had under another name here, because that build does not bring CUDA."""
    exact: bool = False
    """Whether a file says nothing to another version of the framework than the one that wrote it."""


FRAMEWORKS: Mapping[str, Framework] = {
    "sklearn": Framework("scikit-learn", ("scikit-learn", "skops", "pandas"), {"sklearn": "scikit-learn"}, exact=True),
    "xgboost": Framework("xgboost-cpu", ("xgboost-cpu",), {"xgboost": "xgboost-cpu"}),
    "lightgbm": Framework("lightgbm", ("lightgbm",), {}),
    "pytorch": Framework("torch", ("torch", "safetensors"), {}),
    "tensorflow": Framework("tensorflow-cpu", ("tensorflow-cpu",), {"tensorflow": "tensorflow-cpu"}),
    "python": Framework("", (), {}),
}
"""Frameworks that run in environments of their own. ONNX runs in that of the model servers."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What an environment holds. `requirements` empty: exactly the lock file of the framework."""

    framework: str
    requirements: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """What the version asked for and does not get, each with the reason."""

    def key(self, lock: str, python: str) -> str:
        """The name of the folder: equal for equal contents. `lock` is the text of the lock file."""
        what = lock if not self.requirements else "\n".join(self.requirements)
        digest = hashlib.sha256(json.dumps([self.framework, python, what]).encode()).hexdigest()[:16]
        return f"{self.framework}-{digest}"


def environment_of(
    framework: str, *, framework_version: str, stated: Sequence[str], own_code: bool, locked: Mapping[str, str]
) -> Environment:
    """What a version of that framework needs. `stated` are its own lines, `locked` the versions of the lock file by
    package, and with `own_code` all that it states is installed.

    Raises ARTIFACT_INVALID, naming the line, where one is no requirement or points elsewhere than to an index.
    """
    kind = FRAMEWORKS[framework]
    wanted: dict[str, Requirement] = {}
    left_out: list[str] = []
    for requirement in _parsed(stated):
        asked = canonicalize_name(requirement.name)
        name = kind.aliases.get(asked, str(asked))
        if not own_code and name not in locked:
            left_out.append(f"{str(requirement)[:120]} (no part of {framework})")
            continue
        if name == "numpy" and not _fits_numpy(requirement):
            left_out.append(f"{str(requirement)[:120]} (Triton's python backend needs numpy 1)")
            continue
        requirement.name = name
        if name == kind.package and not kind.exact and _wrote_older(requirement, locked):
            # What was written by an older one is read by the newer one.
            continue
        if name in wanted:
            requirement.specifier &= wanted[name].specifier
            requirement.extras |= wanted[name].extras
        wanted[name] = requirement
    if framework_version and kind.package and kind.package not in wanted:
        version = _version_wanted(kind, framework_version, locked)
        if version:
            wanted[kind.package] = Requirement(f"{kind.package}=={version}")
    shown = left_out[:_LEFT_OUT_SHOWN]
    if len(left_out) > len(shown):
        shown.append(f"and {len(left_out) - len(shown)} more")
    if all(_satisfied(one, locked) for one in wanted.values()):
        return Environment(framework, (), tuple(shown))
    for need in (*kind.needs, "numpy", "pyyaml"):
        pinned = f"{need}=={locked[need]}" if need == kind.package and need in locked else need
        wanted.setdefault(need, Requirement(pinned))
    wanted["numpy"].specifier &= _NUMPY
    return Environment(framework, tuple(sorted(str(one) for one in wanted.values())), tuple(shown))


def lock_versions(lock: str) -> Mapping[str, str]:
    """The version of each package of a lock file that is meant for this Python."""
    found: dict[str, str] = {}
    for line in lock.splitlines():
        if not line or line[0] in " #-":
            continue
        requirement = Requirement(line.rstrip(" \\"))
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = next(iter(requirement.specifier)).version
    return found


def _parsed(lines: Sequence[str]) -> Sequence[Requirement]:
    found: list[Requirement] = []
    for line in lines:
        # A hash belongs to a file of one index; what is installed is checked against the index by the installer.
        text = _HASH.sub("", _COMMENT.sub("", line)).strip().rstrip("\\").strip()
        if not text or text.startswith("--hash"):
            continue
        if len(found) >= REQUIREMENTS_MAX:
            raise _refused(text[:80], f"at most {REQUIREMENTS_MAX} requirements")
        if len(text) > _LINE_LENGTH_MAX or text.startswith("-"):
            raise _refused(text[:80], "requirements alone, no options of pip")
        try:
            requirement = Requirement(text)
        except InvalidRequirement as error:
            raise _refused(text[:80], f"a requirement ({str(error).splitlines()[0]})") from None
        if any(one.operator == "===" for one in requirement.specifier):
            raise _refused(text[:80], "versions that can be compared, no ===")
        if requirement.url is not None:
            raise _refused(text[:80], "a package of the index by its name, no address")
        if requirement.marker is None or requirement.marker.evaluate():
            requirement.marker = None
            found.append(requirement)
    return found


def _version_wanted(kind: Framework, stated: str, locked: Mapping[str, str]) -> str:
    """The version to install for what was written by `stated`; empty: the locked one does."""
    try:
        wrote, have = Version(stated.removeprefix("v")), Version(locked[kind.package])
    except (InvalidVersion, KeyError):
        return ""
    return "" if wrote == have or (not kind.exact and wrote <= have) else wrote.public


def _satisfied(requirement: Requirement, locked: Mapping[str, str]) -> bool:
    version = locked.get(canonicalize_name(requirement.name))
    known = version is not None and not requirement.extras
    return known and requirement.specifier.contains(str(version), prereleases=True)


def _wrote_older(requirement: Requirement, locked: Mapping[str, str]) -> bool:
    """Whether it asks for one version that is no newer than the locked one."""
    (only, *others) = requirement.specifier or [None]
    if only is None or others or only.operator != "==" or only.version.endswith("*"):
        return False
    return Version(only.version) <= Version(locked.get(canonicalize_name(requirement.name), "0"))


def _fits_numpy(requirement: Requirement) -> bool:
    """Whether some numpy 1 that the backend can run with is allowed."""
    return any(requirement.specifier.contains(f"1.{minor}.{patch}") for minor in range(20, 27) for patch in range(6))


def _refused(line: str, allowed: str) -> MeshError:
    return MeshError(
        Reason.ARTIFACT_INVALID,
        f"the version's requirements hold {line!r}; allowed: {allowed}; register it anew with other requirements",
    )
