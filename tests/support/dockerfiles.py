"""Dockerfiles as values, and what a Python process imports, found without running it."""

import ast
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "deploy" / "docker"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands between one FROM and the next."""

    name: str
    base: str
    steps: tuple[tuple[str, str], ...]

    def of(self, instruction: str) -> list[str]:
        """The arguments of each such instruction, in order."""
        return [rest for word, rest in self.steps if word == instruction]

    def copies(self) -> Iterator[tuple[str, str]]:
        """What is copied out of the build context: each source with its place in the image."""
        folder = PurePosixPath("/")
        for word, rest in self.steps:
            if word == "WORKDIR":
                folder = PurePosixPath(rest)
            if word != "COPY" or rest.startswith("--from="):
                continue
            *sources, target = shlex.split(rest)
            for source in sources:
                place = folder / target
                inside = target.endswith("/") and not (ROOT / source).is_dir()
                yield source, str(place / PurePosixPath(source).name if inside else place)


def stages(dockerfile: Path) -> Sequence[Stage]:
    """The stages of a Dockerfile, in order."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    found: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(name or "final", base, ()))
        elif word and found:
            last = found[-1]
            found[-1] = Stage(last.name, last.base, (*last.steps, (word, rest.strip())))
    return found


def pins(lock: Path) -> Mapping[str, set[str]]:
    """Versions by package: more than one where they differ by the version of Python."""
    found: dict[str, set[str]] = {}
    for package, version in _PIN.findall(lock.read_text()):
        found.setdefault(package, set()).add(version)
    return found


@dataclass(frozen=True, slots=True)
class Imports:
    """What a process imports, directly or not."""

    files: frozenset[Path]
    """Of this project."""
    packages: Mapping[str, str]
    """Distributions of others, each with one of the modules that it is needed for."""
    unknown: frozenset[str]
    """Modules that nobody has."""


@cache
def imports_of(modules: tuple[str, ...], scripts: tuple[Path, ...] = ()) -> Imports:
    """Follows imports from these modules and scripts, those inside functions too, but for those for type checkers."""
    roots = (ROOT, ROOT / "protos" / "gen" / "python", ROOT / ".build" / "xds" / "python")
    files: set[Path] = set(scripts)
    packages: dict[str, str] = {}
    unknown: set[str] = set()
    seen: set[str] = set()
    waiting = [*modules, *(name for script in scripts for name in _imported(script))]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parts = name.split(".")
        own = [found for length in range(1, len(parts) + 1) if (found := _file(roots, parts[:length])) is not None]
        if own:
            # A package is run when anything in it is imported; what is no module is a name in the last one.
            for file in own:
                if file.suffix == ".py" and file not in files:
                    files.add(file)
                    waiting += _imported(file)
            continue
        package = _owner(name)
        if package is None:
            unknown.add(name)
        elif package:
            packages.setdefault(package, name)
    return Imports(frozenset(files), packages, frozenset(unknown))


def _file(roots: Sequence[Path], parts: Sequence[str]) -> Path | None:
    for root in roots:
        folder = root.joinpath(*parts)
        for file in (folder / "__init__.py", folder.with_suffix(".py")):
            if file.is_file():
                return file
        # A folder without __init__.py, of which generated code has many.
        if root != ROOT and folder.is_dir():
            return folder
    return None


def _imported(file: Path) -> list[str]:
    found: list[str] = []
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports by a relative name"
            assert node.module is not None
            found += [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
        waiting += ast.iter_child_nodes(node)
    return found


def _owner(name: str) -> str | None:
    """The distribution that has a module, or the one that it is a name in; empty for Python's own, None for nobody."""
    parts = name.split(".")
    if parts[0] in sys.stdlib_module_names:
        return ""
    owners = _owners()
    for length in range(len(parts), 0, -1):
        found = owners.get("/".join(parts[:length]))
        if found is not None:
            return found
    return None


@cache
def _owners() -> Mapping[str, str]:
    """Distribution by module, as a path without its ending."""
    found: dict[str, str] = {}
    for distribution in distributions():
        package = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        for file in distribution.files or ():
            path = PurePosixPath(str(file))
            if path.suffix not in {".py", ".so"} or ".." in path.parts:
                continue
            stem = path.parent / path.name.split(".")[0]
            module = stem.parent if stem.name == "__init__" else stem
            found.setdefault(str(module), package)
    # A folder without __init__.py is nobody's: several distributions have modules in it.
    return {**{str(folder): "" for module in found for folder in PurePosixPath(module).parents}, **found}
