"""How the engine behaves; every field's default suits a small machine with one Triton."""

from dataclasses import dataclass, field

from services.batcher.domain.conduct import EjectionRules
from services.batcher.domain.fairness import WeightOf, equal_weights


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Bounds and patience of the engine."""

    in_flight_per_backend: int = 2
    """Batches that a backend of capacity 1 is given at a time, of one version, until it is known how many are best."""
    in_flight_per_backend_max: int = 4
    """The most that are tried."""
    queue_rows_max: int = 20_000
    """Rows of one version that may wait; beyond it QUEUE_FULL."""
    weight_of: WeightOf = equal_weights
    """Each tenant's share of a version's rows and of its queue, relative to the others'."""
    background_patience_s: float = 5.0
    """A version's batch jobs that were given nothing for this long are given one batch, idle or not."""
    queue_bytes_max: int = 256 * 1024 * 1024
    """Input bytes of all requests that are not answered yet; beyond it QUEUE_FULL."""
    attempts_max: int = 4
    """How often one request may be sent before its failure is final, counting only what may have reached a model."""
    outage_patience_s: float = 10.0
    """How long requests wait for a version that no backend can run now: it covers a restart of Triton. After that
    they are refused at once until a backend is back."""
    activation_retry_s: float = 2.0
    """How long nothing more is tried for a cold version that could not be loaded: its requests are refused at once."""
    activation_delay_min_s: float = 0.1
    """The first pause before a deployer that does not answer is asked again for a cold version; it doubles."""
    activation_delay_max_s: float = 2.0
    """The longest such pause."""
    listing_patience_s: float = 10.0
    """How long a version that was loaded may take to appear with its backends in the serving table. Then the deployer
    is asked again."""
    backend_timeout_s: float = 60.0
    """The longest that one batch may take, whatever its callers' deadlines."""
    probe_delay_min_s: float = 0.05
    """The first pause before a server or a model that failed is tried again; it doubles."""
    probe_delay_max_s: float = 1.0
    """The longest such pause."""
    slow_start_s: float = 10.0
    """Over how long a backend that is new or has come back is given a growing share, from a tenth. Nothing waits for it
    while it is the only one."""
    ejection: EjectionRules = field(default_factory=EjectionRules)
    """When a backend is set aside for how it does beside the others of a version."""
    idle_groups_max: int = 4096
    """Groups without requests that are remembered, so that the next request finds them ready."""
