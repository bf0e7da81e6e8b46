"""What the router knows of deployments: enough to have a version deployed again as it was."""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass

_NAME_MAX = 63
_SUFFIX = 6


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment as the deployer has it."""

    model_name: str
    deployment_name: str
    version: str
    status: str
    """"pending", "deploying", "active", "failed" or "terminating"."""
    error_message: str
    """Why it does not answer; empty: nothing is wrong."""
    spec: bytes
    """How it is deployed, in the form in which it travels: resources, autoscaling, batching and the like. The router
    keeps it and looks at nothing in it."""


@dataclass(frozen=True, slots=True)
class Spec:
    """How a version was deployed last."""

    model_name: str
    version: str
    deployment_name: str
    spec: bytes


def deployment_name_for(version: str, taken: Collection[str], last: str = "") -> str:
    """A name for a deployment of a version that is deployed again: its last one, where that is free, else one made of
    the version."""
    slug = re.sub(r"[^a-z0-9]+", "-", version.lower()).strip("-")[: _NAME_MAX - _SUFFIX - 1].strip("-")
    digest = hashlib.sha256(version.encode()).hexdigest()[:_SUFFIX]
    for name in (last, slug):
        if name and name not in taken:
            return name
    return f"{slug}-{digest}"
