"""What the faces need of the rest of the batcher, as small protocols."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.batcher.domain.features import JoinPlan
from services.batcher.domain.instances import InstancePlan, Row
from services.batcher.domain.log_detail import Detail
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.faces.call import Call
from services.batcher.faces.catalog import VersionPlan


@dataclass(frozen=True, slots=True)
class FinishedCopy:
    """A shadow copy that was answered, or failed."""

    plan: VersionPlan
    """The version that got it."""
    request_id: str
    """The caller's."""
    user: str
    team: str
    rows: int
    ended_s: float
    took_s: float
    code: int
    """A google.rpc.Code, 0 for success."""
    reason: int
    detail: Detail | None = None
    compute_s: float = 0.0
    """What it used of model servers."""


class InferEngine(Protocol):
    """Whoever answers a request that was checked."""

    async def infer(self, request: InferRequest) -> InferResult:
        """The request's own rows, or MeshError. Cancelling is free at any time."""
        ...


class FeatureJoiner(Protocol):
    """Who adds features of feature stores."""

    async def join(self, plan: JoinPlan, rows: Sequence[Row], *, prefix: str = "instances") -> list[Row]:
        """The instances with all their features. Raises SCHEMA_VIOLATION, FEATURE_MISSING or FEATURE_STORE_UNAVAILABLE.
        Cancelling is free at any time."""
        ...


class RequestLog(Protocol):
    """Where finished requests are noted for the monitor. Takes a microsecond and never fails."""

    def add(self, call: Call, *, ended_s: float, code: int, reason: int, detail: Detail | None = None) -> None:
        """Notes a request: its google.rpc.Code and ErrorReason, both 0 for success. `detail`: what else is wanted of
        it, for nearly all nothing."""
        ...

    def add_copy(self, copy: FinishedCopy) -> None:
        """Notes a shadow copy of a request."""
        ...


class ReferenceSource(Protocol):
    """Who has the reference samples that explanations are made against."""

    def check(self, served: ServedVersion) -> None:
        """Raises EXPLANATION_NOT_READY where the version's sample is not here."""
        ...

    async def sample(self, plan: InstancePlan) -> tuple[Tensor, ...]:
        """The version's sample as input tensors, in the schema's order. Raises EXPLANATION_NOT_READY, or
        EXPLANATION_UNAVAILABLE where it does not fit the version."""
        ...
