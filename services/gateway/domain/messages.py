"""What a gateway and its router say to each other by the rules of xDS, as far as the keeper must understand it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_INCOMPLETE = "~"


def is_complete(version: str) -> bool:
    """Whether a gateway that goes by this version has all that it asked for. Routes come in parts, and the router puts
    `~` and a number behind the version of a response after which some are lacking still."""
    return bool(version) and _INCOMPLETE not in version


def in_part(version: str, number: int) -> str:
    """The version of a gateway that has some of what has this version. Were it called complete, a router that is back
    would not send the rest."""
    return f"{version.partition(_INCOMPLETE)[0]}{_INCOMPLETE}{number}"


@dataclass(frozen=True, slots=True)
class Request:
    """What a gateway asks for, and what it says of the response before."""

    type_url: str
    """Of the resources."""
    body: bytes
    """The message as it came."""
    node: str = ""
    """The gateway's name; the first request of a stream has it."""
    version: str = ""
    """By which it goes; empty: it has none."""
    names: frozenset[str] = frozenset()
    """Of the resources that it wants; empty: all."""
    nonce: str = ""
    """Of the response that this answers; empty: of none."""
    refusal: str = ""
    """Why it did not take that response, in its own words; empty: it did."""


@dataclass(frozen=True, slots=True)
class Response:
    """Resources of one type."""

    type_url: str
    version: str
    nonce: str
    """By which the gateway's answer names this response."""
    resources: Mapping[str, bytes]
    """By name, each as it came."""
    body: bytes = b""
    """The message as it came; empty where it did not."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a gateway took of one type."""

    version: str
    resources: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one gateway took last, by type. A value: a later one replaces it."""

    types: Mapping[str, Kept] = field(default_factory=dict)

    def version(self, type_url: str) -> str:
        """Of what is kept of a type; empty: nothing is."""
        kept = self.types.get(type_url)
        return kept.version if kept is not None else ""

    def with_taken(self, response: Response, *, by_name: bool) -> "Configuration":
        """The same after this response. `by_name`: the gateway asked for these resources by their names, so those that
        the response does not have hold on; else the response is all that there is."""
        before = self.types.get(response.type_url)
        resources = {**before.resources, **response.resources} if by_name and before is not None else response.resources
        return Configuration({**self.types, response.type_url: Kept(response.version, resources)})
