"""What a team's deployments may use together.

A deployment counts with each of its replicas, and one that scales by itself with as many as it may grow to: a quota
that it could outgrow later, when nobody is there to be told, would be none. One that is being removed counts no more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from services.common.errors import MeshError, Reason, invalid
from services.common.quantity import parse_quantity
from services.deployer.domain.deployment import Wish


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that a team may use. Quantities as in Kubernetes; empty or None: no limit."""

    team: str
    cpu: str = ""
    memory: str = ""
    gpu: int | None = None

    @property
    def limits(self) -> bool:
        """Whether it limits anything."""
        return bool(self.cpu or self.memory or self.gpu is not None)


@dataclass(frozen=True, slots=True)
class Use:
    """Cores, bytes and GPUs."""

    cpu: Fraction = Fraction(0)
    memory: Fraction = Fraction(0)
    gpu: Fraction = Fraction(0)

    def __add__(self, other: "Use") -> "Use":
        return Use(self.cpu + other.cpu, self.memory + other.memory, self.gpu + other.gpu)


def amount(quantity: str) -> Fraction:
    """A quantity such as "500m" or "16Gi" as a number; 0 where it is empty. Raises ValueError."""
    if not quantity:
        return Fraction(0)
    found = parse_quantity(quantity)
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity")
    return found


def use_of(wish: Wish) -> Use:
    """The most that a deployment uses."""
    resources, scaling = wish.resources, wish.autoscaling
    replicas = resources.replicas
    if scaling is not None and scaling.enabled:
        replicas = max(replicas, scaling.max_replicas)
    return Use(
        amount(resources.cpu) * replicas, amount(resources.memory) * replicas, Fraction(resources.gpu * replicas)
    )


def check_quota(quota: Quota, wish: Wish, *, others: Iterable[Wish], before: Wish | None = None) -> None:
    """Raises QUOTA_EXCEEDED where the wish goes beyond the quota together with the team's other deployments, and
    INVALID_FIELD where it does not say what it takes of a thing that is limited. A change that takes no more than
    `before` always may."""
    resources = wish.resources
    for field, limit, stated in (("cpu", quota.cpu, resources.cpu), ("memory", quota.memory, resources.memory)):
        if limit and not stated:
            raise invalid(f"resources.{field}", stated, f"a quantity, because team {quota.team!r} has a quota of it")
    asked, used = use_of(wish), sum(map(use_of, others), Use())
    had = use_of(before) if before is not None else Use()
    for name, wanted, taken, held, limit in (
        ("cpu", asked.cpu, used.cpu, had.cpu, quota.cpu),
        ("memory", asked.memory, used.memory, had.memory, quota.memory),
        ("gpu", asked.gpu, used.gpu, had.gpu, "" if quota.gpu is None else str(quota.gpu)),
    ):
        if limit and wanted > held and taken + wanted > amount(limit):
            raise _exceeded(quota.team, name, asked=wanted, used=taken, allowed=amount(limit))


def _exceeded(team: str, name: str, *, asked: Fraction, used: Fraction, allowed: Fraction) -> MeshError:
    shown = {"asked": _plain(asked), "used": _plain(used), "allowed": _plain(allowed)}
    return MeshError(
        Reason.QUOTA_EXCEEDED,
        f"team {team!r} may use {shown['allowed']} {name}; its other deployments take {shown['used']} and this one "
        f"would take {shown['asked']}; scale one down, or ask a platform admin for more",
        metadata={"limit": name, "team": team, **shown},
    )


def _plain(number: Fraction) -> str:
    text = format(Decimal(number.numerator) / Decimal(number.denominator), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
