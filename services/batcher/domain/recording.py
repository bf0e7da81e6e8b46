"""What a version's logging policy asks of the batcher: which requests get hash and output, what is redacted."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.common.sampling import sampled


@dataclass(frozen=True, slots=True)
class Recording:
    """A policy, compiled."""

    threshold: float
    """Of `sampled`: the share of the successful requests that is logged."""
    input_hash: bool = False
    output: bool = False
    redacted: frozenset[str] = frozenset()
    """Names of outputs whose values leave this process neither with the log nor with a sample for drift."""

    def takes(self, request_id: str) -> bool:
        """Whether a successful request is logged with all that is asked for."""
        return (self.input_hash or self.output) and sampled(request_id, self.threshold)


@dataclass(frozen=True, slots=True)
class Recordings:
    """The policies by model and version; version "": of all versions without one of their own."""

    by_version: Mapping[tuple[str, str], Recording | None]
    """None: a policy that asks for nothing, which its version has in place of its model's."""

    def of(self, model: str, version: str) -> Recording | None:
        """What holds for a version; None where nothing is asked for, as for nearly all."""
        known = self.by_version
        return known[model, version] if (model, version) in known else known.get((model, ""))


NO_RECORDINGS = Recordings({})
