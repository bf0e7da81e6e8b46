"""A deployment goes over to another version: what the new one takes over from the old one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.common.errors import MeshError, Reason
from services.common.names import check_version
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Wish


def takes_over_from(old: Deployment) -> str:
    """The version whose traffic the new one shall have: the last that traffic was led to. Empty: none was yet."""
    return old.new.version if old.progress.traffic_routed else old.previous_version


@dataclass(frozen=True, slots=True)
class Split:
    """The shares that the router is given, and which generation asked for them (`Deployment.split_generation`)."""

    shares: Mapping[str, int]
    generation: int


def asked_split(old: Deployment, wish: Wish) -> Split | None:
    """The shares that a changed wish asks for; None: none other than before, and what the router has stays."""
    said = wish.of_object.traffic_split
    if not said or said == old.wish.of_object.traffic_split:
        return None
    return Split({check_version(version): share for version, share in said.items()}, old.generation + 1)


def rolled_split(old: Deployment, version: str, wish: Wish) -> Split:
    """The shares that go with another version. Those that were not handed to the router yet are the new version's."""
    asked = asked_split(old, wish)
    if asked is not None:
        return asked
    shares = dict(old.new.traffic_split)
    pending = old.split_generation > 0 and not old.progress.traffic_routed
    if (pending or not takes_over_from(old)) and old.new.version in shares:
        shares[version] = shares.get(version, 0) + shares.pop(old.new.version)
    return Split(shares, old.split_generation if pending else 0)


def rolled(old: Deployment, version: str, wish: Wish) -> NewDeployment:
    """The deployment with another version."""
    return replace(old.new, version=version, wish=wish, traffic_split=dict(rolled_split(old, version, wish).shares))


def taken_up(older: Progress) -> Progress:
    """What an older version came to, now that it is the deployment's own again."""
    return replace(
        older,
        attempts=0,
        next_attempt_at=None,
        replicas=None,
        warm_until=None,
        traffic_routed=False,
        conditions=tuple(one for one in older.conditions if one.type not in ("Routed", "Superseded")),
    )


def check_free(old: Deployment, version: str, rival: Deployment | None) -> None:
    """Raises where the version belongs to another deployment of the model, or is just being removed."""
    if rival is None:
        return
    new = rival.new
    metadata = {"model_name": new.model_name, "deployment_name": new.deployment_name}
    if rival.deleting:
        raise MeshError(
            Reason.DEPLOYMENT_TERMINATING,
            f"{version} of model {new.model_name!r} is just being removed; try again in some seconds",
            metadata=metadata,
            retry_after_s=2.0,
        )
    if rival.successor != old.deployment_id:
        raise MeshError(
            Reason.DEPLOYMENT_EXISTS,
            f"{version} of model {new.model_name!r} is deployed already, as {new.deployment_name!r}; move the traffic "
            "to it, or delete that deployment first",
            metadata=metadata,
        )
