"""The clusters of a service's settings: a name each, and the kubeconfig by which it is reached."""

import re
from collections.abc import Mapping
from pathlib import Path

LOCAL = "local"
"""What no cluster may be called: it stands for this machine."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def kubeconfigs(told: str) -> Mapping[str, Path | None]:
    """The clusters of "name=path,name" by name; None: the one that this runs in. Raises ValueError."""
    pairs = [one.strip().partition("=") for one in told.split(",") if one.strip()]
    names = [name.strip() for name, _, _ in pairs]
    for name in names:
        if not _NAME.fullmatch(name) or name == LOCAL:
            raise ValueError(f"{name!r} cannot name a cluster; use 1 to 63 of a-z, 0-9 and '-', and not {LOCAL!r}")
    if len(set(names)) < len(names):
        raise ValueError("each cluster must have a name of its own")
    return {name.strip(): Path(path.strip()) if path.strip() else None for name, _, path in pairs}
