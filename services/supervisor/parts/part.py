"""One process of the mesh, as a value: what to run, when it is ready, how it stops."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from signal import SIGTERM


def _nothing() -> None:
    """Most parts leave nothing."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a supervisor needs to know of one process."""

    name: str
    """Unique in the mesh, for instance "postgres" or "router"."""
    argv: tuple[str, ...]
    """The command; the first element is an absolute path."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The whole environment of the process: nothing is inherited."""
    cwd: Path
    """Working folder."""
    ports: Mapping[str, int] = field(default_factory=dict)
    """The TCP ports on loopback that it will bind, by what they are for; checked to be free before it starts."""
    ready: Callable[[], Awaitable[bool]]
    """A cheap probe: True when the part really answers. May raise OSError, which means not yet."""
    ready_timeout_s: float = 20.0
    """How long it may take to become ready."""
    stop_signal: int = SIGTERM
    """The signal that asks it to stop in order."""
    stop_timeout_s: float = 5.0
    """How long it may take to stop before it is killed."""
    uid: int | None = None
    """The user to run as, where this process is root and the part refuses to be."""
    vital: bool = True
    """Whether the mesh ends when it keeps dying. Predictions go on without the control plane, however long it is away:
    to end them then would make one failure two."""
    log_path: Path
    """Where its standard output and error go."""
    after_stop: Callable[[], None] = field(default=_nothing)
    """Cleans up what the process cannot when it is killed; runs after every end of it."""


def wheel_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it: we want the binaries inside, not its code."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"the package {package} is not installed; run `make setup` again")
    return Path(spec.origin).parent
