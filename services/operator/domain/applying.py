"""Whether an object must be applied: compared before every call, so that what is as it should be costs none.

The API server fills in defaults and writes quantities its own way, so what is there holds more than what was applied,
and in other words. It is right where all that was applied stands in it. Where even that fails although nothing else
changed it since, it is the server's own way to write it, and applying it again and again would not change that.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from services.common.body import Body, at, table, text
from services.common.quantity import parse_quantity
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.names import APPLIED

Key = tuple[str, str]
"""Kind and name of an object, within the namespace of its model deployment."""


def key_of(body: Body) -> Key:
    """By what an object is found."""
    return text(body, "kind"), text(body, "metadata", "name")


def stamped(manifest: Manifest, *, scaled: bool = False) -> Manifest:
    """A manifest with the digest of itself as an annotation. `scaled`: something else changes how many replicas there
    are, so that these are no part of it."""
    spoken = _without_replicas(manifest) if scaled else manifest
    digest = hashlib.sha256(json.dumps(spoken, sort_keys=True).encode()).hexdigest()[:20]
    metadata = dict(table(manifest, "metadata"))
    metadata["annotations"] = {**table(metadata, "annotations"), APPLIED: digest}
    return {**manifest, "metadata": metadata}


def must_apply(manifest: Manifest, live: Body | None, *, settled_at: str | None, scaled: bool = False) -> bool:
    """Whether a stamped manifest must be applied to what is there. `settled_at`: the resource version that came of the
    last time that it was."""
    if live is None:
        return True
    if text(live, "metadata", "annotations", APPLIED) != text(manifest, "metadata", "annotations", APPLIED):
        return True
    if settled_at is not None and settled_at == text(live, "metadata", "resourceVersion"):
        return False
    return not holds(live, _without_replicas(manifest) if scaled else manifest)


def holds(live: object, wanted: object) -> bool:
    """Whether all of `wanted` stands in `live`."""
    if isinstance(wanted, Mapping):
        # What is applied empty is not stored.
        return isinstance(live, Mapping | None) and all(
            holds(at(live, str(name)), value) for name, value in wanted.items()
        )
    if isinstance(wanted, str):
        return live == wanted or _same_quantity(live, wanted)
    if isinstance(wanted, Sequence):
        if not wanted:
            return live is None or live == []
        found = live if isinstance(live, list) else []
        return len(found) == len(wanted) and all(holds(one, other) for one, other in zip(found, wanted, strict=True))
    return live == wanted or (not wanted and live is None)


def _same_quantity(live: object, wanted: str) -> bool:
    if not isinstance(live, str | int):
        return wanted == "" and live is None
    found = parse_quantity(str(live))
    return found is not None and found == parse_quantity(wanted)


def _without_replicas(manifest: Manifest) -> Manifest:
    spec = {name: value for name, value in table(manifest, "spec").items() if name != "replicas"}
    return {**manifest, "spec": spec}
