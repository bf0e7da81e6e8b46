"""What gateways are told: per model which versions exist and how its traffic is split, at one revision. Immutable."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Share:
    """A version's part of a model's traffic."""

    version: str
    percent: int
    """1 to 100; a version without traffic has no share."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Requests that get a version whatever the shares."""

    header: str
    """The header whose value decides, in lower case."""
    values: tuple[str, ...]
    """Any of them matches; at least one."""
    version: str
    prefix: bool = False
    """Whether a value that begins with one of them matches too."""


@dataclass(frozen=True, slots=True)
class ModelRoutes:
    """How requests for one model find their version."""

    model_name: str
    versions: tuple[str, ...]
    """Every version that is ready, in ascending order; each may be asked for by name."""
    shares: tuple[Share, ...]
    """Add up to 100, and stand for the places 0 to 99 in their order: place 0 is the first one's. A key has one of
    the places. A version may have several shares, so that it need not give a place away when another one grows."""
    sticky_header: str = ""
    """The header (gRPC metadata key) whose value decides the version: the same value, the same version. Empty: every
    request is a new throw."""
    conditions: tuple[Condition, ...] = ()
    """The first that matches decides, before the shares; each one's version is ready."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """All that gateways are told of models."""

    revision: int = 0
    """Increases with every change and never falls, also across restarts of the router."""
    models: Mapping[str, ModelRoutes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayState:
    """How a gateway stands."""

    gateway_id: str
    """Its stable name, for instance "gateway-0"."""
    acknowledged_revision: int
    """The revision of the routing table that it routes by; 0: none yet."""
    error_message: str = ""
    """Why it refused what it was sent last; empty: it did not."""
