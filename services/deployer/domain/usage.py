"""CPU that copies of a model use, in percent of what its replicas may use."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.deployer.domain.deployment import Wish
from services.deployer.domain.quota import amount


@dataclass(frozen=True, slots=True)
class CopyUse:
    """What the copies of a model on one server used between two samples."""

    cores: float = 0.0
    """CPU time over time, of all of them."""
    copies: int = 0
    """Those that were there at both."""


def cpu_percent(uses: Iterable[CopyUse], wish: Wish, *, threads_default: int) -> float | None:
    """Of `resources.cpu` of a replica, else of a core for each thread of each of its copies; None where there was no
    copy to measure."""
    known = list(uses)
    copies = sum(one.copies for one in known)
    if not copies:
        return None
    instances = wish.instances(1)
    cores = float(amount(wish.resources.cpu)) or float(instances * (wish.serving.threads or threads_default))
    return 100 * sum(one.cores for one in known) / copies * instances / cores
