"""What callers are told when they get no prediction."""

from services.batcher.domain.failure import BackendFailure, FailureKind
from services.common.errors import MeshError, Reason

STAGE_QUEUE = "queue"
STAGE_BACKEND = "backend"
STAGE_LOAD = "load"
"""Where a request was when its deadline passed, as an error's metadata says."""
METADATA_COLD = "cold"
"""In an error's metadata: a shadow copy was refused because its version is not loaded."""
RETRY_OUTAGE_S = 1.0
"""When to come back while no backend answers: they are asked about once a second."""


def too_late(
    model_name: str, version: str, waited_s: float, *, sent: bool, running_s: float | None = None
) -> MeshError:
    """The deadline passed, in the queue or while the model ran, or no model can answer before it does. `running_s`: for
    how long the batch was with the model, where that is known."""
    where = "while the model was running" if sent else "before a backend was free"
    return MeshError(
        Reason.DEADLINE_TOO_SHORT,
        f"the deadline passed {where}, {waited_s * 1000:.0f} ms after the request had come to version {version} of "
        f"{model_name!r}; allow more time, or give the version more replicas",
        metadata={"model": model_name, "version": version, "stage": STAGE_BACKEND if sent else STAGE_QUEUE}
        | ({"running_ms": f"{running_s * 1000:.0f}"} if running_s is not None else {}),
    )


def cut_off(model_name: str, version: str, waited_s: float, *, backends: str) -> MeshError:
    """The deadline passed while no backend was there. `backends`: why not, for each of them."""
    return MeshError(
        Reason.DEADLINE_TOO_SHORT,
        f"the deadline passed {waited_s * 1000:.0f} ms after the request had come, and no backend of version {version} "
        f"of {model_name!r} could be reached ({backends}); try again once one is back: `infermesh status` shows what "
        "is away, the model server's log says why",
        metadata={"model": model_name, "version": version, "backends": backends},
        retry_after_s=RETRY_OUTAGE_S,
    )


def still_cold(model_name: str, version: str, waited_s: float, *, doing: str) -> MeshError:
    """The deadline passed while the version was not loaded. `doing`: what has come of having it loaded."""
    return MeshError(
        Reason.DEADLINE_TOO_SHORT,
        f"the deadline passed {waited_s * 1000:.0f} ms after the request had come: version {version} of "
        f"{model_name!r} was not loaded, because nobody had asked for it lately, and {doing}; allow more time, or come "
        f"back in {RETRY_OUTAGE_S:g} s",
        metadata={"model": model_name, "version": version, "stage": STAGE_LOAD},
        retry_after_s=RETRY_OUTAGE_S,
    )


def not_loaded(model_name: str, version: str, error: MeshError, *, again_after_s: float) -> MeshError:
    """A cold version could not be loaded: the deployer's reason and words. It is tried again after `again_after_s`."""
    return MeshError(
        error.reason,
        f"version {version} of {model_name!r} is not loaded, and loading it failed: {error.message}; it is tried again "
        f"for whoever asks in {again_after_s:.1f} s",
        metadata={**error.metadata, "model": model_name, "version": version},
        # Where the deployer names no time it is not for a client to try again by itself: something has to be mended.
        retry_after_s=None if error.retry_after_s is None else max(error.retry_after_s, again_after_s),
    )


def not_for_copies(model_name: str, version: str) -> MeshError:
    """A shadow copy for a version that is cold: it is not worth loading one."""
    return MeshError(
        Reason.BACKEND_UNAVAILABLE,
        f"version {version} of {model_name!r} is not loaded, and a shadow copy has none loaded; ask for it without "
        "x-mesh-shadow, and it will be",
        metadata={"model": model_name, "version": version, METADATA_COLD: "true"},
    )


def queue_full(model_name: str, version: str, *, what: str, held: int, allowed: int, retry_after_s: float) -> MeshError:
    """A bound of the queue is reached."""
    return MeshError(
        Reason.QUEUE_FULL,
        f"version {version} of {model_name!r} cannot take the request: {held} {what} are under way and {allowed} are "
        f"allowed; come back in {retry_after_s:.2f} s, or give the version more replicas",
        metadata={"model": model_name, "version": version, "limit": what},
        retry_after_s=retry_after_s,
    )


def hopeless(model_name: str, version: str, *, left_s: float, least_s: float) -> MeshError:
    """Even the quickest batch would be late."""
    return MeshError(
        Reason.DEADLINE_TOO_SHORT,
        f"the request has {left_s * 1000:.1f} ms left, and version {version} of {model_name!r} took at least "
        f"{least_s * 1000:.1f} ms for every batch of the last minutes; allow more time",
        metadata={"model": model_name, "version": version},
    )


def overloaded(model_name: str, version: str, *, needed_s: float, left_s: float, retry_after_s: float) -> MeshError:
    """With all that waits before it, it would be late; or it would make others late that were admitted before it."""
    return MeshError(
        Reason.QUEUE_FULL,
        f"version {version} of {model_name!r} is overloaded: by its queue the answer would come in "
        f"{needed_s * 1000:.0f} ms and the request has {left_s * 1000:.0f} ms; come back in {retry_after_s:.2f} s, "
        "allow more time, or give the version more replicas",
        metadata={"model": model_name, "version": version, "limit": "time"},
        retry_after_s=retry_after_s,
    )


def displaced(model_name: str, version: str, *, retry_after_s: float) -> MeshError:
    """It had to make room in a full queue."""
    return MeshError(
        Reason.QUEUE_FULL,
        f"the queue of version {version} of {model_name!r} is full, and the request made room for one of a higher "
        f"priority, or of a team with fewer rows waiting; come back in {retry_after_s:.2f} s",
        metadata={"model": model_name, "version": version, "limit": "share"},
        retry_after_s=retry_after_s,
    )


def unavailable(model_name: str, version: str, why: str, *, backends: str = "") -> MeshError:
    """No backend can run the version now. `backends`: why not, for each of them."""
    return MeshError(
        Reason.BACKEND_UNAVAILABLE,
        f"no backend can run version {version} of {model_name!r} now: {why}; try again in {RETRY_OUTAGE_S:g} s",
        metadata={"model": model_name, "version": version} | ({"backends": backends} if backends else {}),
        retry_after_s=RETRY_OUTAGE_S,
    )


def failed(model_name: str, version: str, failure: BackendFailure) -> MeshError:
    """The final word on a request whose batch failed."""
    metadata = {"model": model_name, "version": version}
    if failure.kind in (FailureKind.MODEL, FailureKind.CRASHED):
        return MeshError(
            Reason.MODEL_FAILED,
            f"version {version} of {model_name!r} failed on this request: {failure.message}",
            metadata=metadata,
        )
    if failure.kind in (FailureKind.PROTOCOL, FailureKind.GARBLED):
        return MeshError(
            Reason.BACKEND_PROTOCOL,
            f"the answer of version {version} of {model_name!r} is not what its schema promises: {failure.message}; "
            "register a version whose schema is the one that the model really has",
            metadata=metadata,
        )
    return unavailable(model_name, version, failure.message)


def stopping() -> MeshError:
    """This batcher is about to go."""
    return MeshError(
        Reason.SHUTTING_DOWN, "this batcher is shutting down; try again, another one answers", retry_after_s=0.1
    )


def unforeseen(error: Exception) -> MeshError:
    """A fault of the batcher itself, which its log describes."""
    return MeshError(
        Reason.INTERNAL, f"an unforeseen failure in the batcher ({type(error).__name__}); its log says more"
    )


def wrong_size(model_name: str, name: str, size: int, expected: int) -> MeshError:
    """An input whose bytes do not fit its shape; no face lets one through."""
    return MeshError(
        Reason.SCHEMA_VIOLATION,
        f"input {name!r} of {model_name!r} has {size} bytes and its shape needs {expected}; "
        "send as many elements as the shape says",
        metadata={"model": model_name, "input": name},
    )


def unreadable(model_name: str, why: str) -> MeshError:
    """An input of texts whose lengths do not add up; no face lets one through."""
    return MeshError(
        Reason.SCHEMA_VIOLATION,
        f"an input of {model_name!r} cannot be cut into rows: {why}; send each text behind its own length",
        metadata={"model": model_name},
    )
