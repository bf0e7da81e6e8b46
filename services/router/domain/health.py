"""How a service says that it is."""

from enum import Enum


class Health(Enum):
    """What a service says of itself; one that does not answer is not serving."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNKNOWN_SERVICE = "unknown service"
