"""Why a batch has no answer, as far as it decides what to do next."""

from dataclasses import dataclass
from enum import Enum, auto


class FailureKind(Enum):
    """What a failure calls for."""

    UNREACHABLE = auto()
    """Nothing was sent: no connection. Try elsewhere or later; costs no attempt."""
    LOST = auto()
    """Sent, then the connection broke or the answer made no sense. Predictions are idempotent, so try again."""
    MISSING = auto()
    """The server is up and does not have the model, for instance because it has just restarted."""
    GARBLED = auto()
    """What came back is not the protocol. Tried again like what was lost."""
    OVERLOADED = auto()
    """The server asks to be left alone for a moment."""
    CRASHED = auto()
    """The model's process died over the batch: by chance, or because of one of its members."""
    MODEL = auto()
    """The model itself refused. Some member is guilty."""
    PROTOCOL = auto()
    """The answer is not what the version's schema promises."""


@dataclass(frozen=True, slots=True)
class BackendFailure:
    """A batch's failure."""

    kind: FailureKind
    message: str
    """The server's or the model's own words where there are any."""
