"""What a gateway and its router say to each other by the rules of xDS, as far as the keeper must understand it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    """All resources of one type, as the router sent them."""

    type_url: str
    version: str
    nonce: str
    """By which the gateway's answer names this response."""
    body: bytes
    """The message as it came."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What one gateway took last, of each type. A value: a later one replaces it."""

    responses: Mapping[str, Response] = field(default_factory=dict)

    def version(self, type_url: str) -> str:
        """Of what is kept of a type; empty: nothing is."""
        kept = self.responses.get(type_url)
        return kept.version if kept is not None else ""

    def with_taken(self, response: Response) -> "Configuration":
        """The same with this response in the place of the one before."""
        return Configuration({**self.responses, response.type_url: response})
