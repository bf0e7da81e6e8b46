"""Whether a row says what its object says, and what is to be done where it does not."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from services.common.errors import MeshError, Reason
from services.common.kubernetes.names import FORECAST, MIRRORED, ROUTED
from services.deployer.domain.cluster.floor import Floor, floor_to_stand, wanted_floor
from services.deployer.domain.cluster.objects import ClusterObject
from services.deployer.domain.deployment import Condition, Deployment, with_condition
from services.deployer.domain.forecast import Standing, Verdict


class Due(Enum):
    """What a row lacks."""

    NOTHING = auto()
    ADOPT = auto()
    """There is none: it is to be made."""
    CHANGE = auto()
    ROLL = auto()
    """It is of another version."""
    REMOVE = auto()
    """Its object is gone, or going."""
    WAIT = auto()
    """It is being removed, and its object is there anew."""
    REFUSE = auto()
    """It is a deployment of that name elsewhere."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an object is not mirrored, for those who made it."""

    reason: str
    message: str


def due(found: ClusterObject | None, row: Deployment | None) -> Due:
    """What is to be done about one deployment's row."""
    if found is None or found.terminating:
        return Due.REMOVE if row is not None and not row.deleting else Due.NOTHING
    if row is None:
        return Due.ADOPT
    if (row.new.cluster, row.new.namespace) != (found.new.cluster, found.namespace):
        return Due.REFUSE
    if row.deleting:
        return Due.WAIT
    if row.new.version != found.new.version:
        return Due.ROLL
    return Due.NOTHING if row.wish == found.wish else Due.CHANGE


def elsewhere(row: Deployment) -> Refusal:
    """The name is taken by a deployment elsewhere."""
    new = row.new
    return Refusal(
        word(Reason.DEPLOYMENT_EXISTS),
        f"model {new.model_name!r} has a deployment {new.deployment_name!r} in cluster {new.cluster!r}, namespace "
        f"{new.namespace!r}; delete that one, or give this one another spec.deploymentName",
    )


def second(first: ClusterObject) -> Refusal:
    """An older object has the same name in the mesh."""
    return Refusal(
        word(Reason.DEPLOYMENT_EXISTS),
        f"ModelDeployment {first.name!r} of this namespace is deployment {first.new.deployment_name!r} of model "
        f"{first.new.model_name!r}; give this one another spec.deploymentName, or delete one of them",
    )


def refused(error: MeshError) -> Refusal:
    """What the mesh refuses."""
    return Refusal(word(error.reason), error.message)


def said_of(
    found: ClusterObject,
    row: Deployment | None,
    refusal: Refusal | None,
    *,
    older: Mapping[str, bool],
    now: datetime,
) -> tuple[Condition, ...]:
    """The deployer's conditions of an object. `older`: its older versions, and whether somebody has
    asked for them lately."""
    if refusal is not None:
        said = with_condition(
            found.said, MIRRORED, status=False, reason=refusal.reason, message=refusal.message, now=now
        )
    else:
        words = f"it is deployment {found.new.deployment_name!r} of model {found.new.model_name!r} in the mesh"
        said = with_condition(found.said, MIRRORED, status=True, reason=MIRRORED, message=words, now=now)
    if refusal is None:
        status, reason, message = _routed(row, older)
    else:
        # An older version that answers goes on, and is not to go for the sake of a wish that the mesh does not know.
        status, reason, message = False, "NotMirrored", "the mesh has not taken up this wish; see Mirrored"
    return with_condition(said, ROUTED, status=status, reason=reason, message=message, now=now)


def foretold(
    said: tuple[Condition, ...], found: ClusterObject, verdict: Verdict | None, *, now: datetime
) -> tuple[tuple[Condition, ...], Floor | None]:
    """The conditions with what becomes of a forecast, and the floor that it asks for. The words of a forecast change
    with every look; they are told anew where it is another one that decides, or another floor."""
    scaling = found.wish.autoscaling
    floor = floor_to_stand(found.floor, wanted_floor(verdict, scaling), now)
    if scaling is None or not (scaling.enabled and scaling.predictive):
        return tuple(one for one in said if one.type != FORECAST), floor
    before = next((one for one in said if one.type == FORECAST), None)
    if verdict is None or (before is not None and before.reason == verdict.standing and floor == found.floor):
        return said, floor
    used = verdict.standing is Standing.USED
    words = f"{verdict.words}; {verdict.floor.why}" if verdict.floor is not None else verdict.words
    return with_condition(
        said, FORECAST, status=used, reason=verdict.standing.value, message=f"the forecast is {words}", now=now
    ), floor


def _routed(row: Deployment | None, older: Mapping[str, bool]) -> tuple[bool, str, str]:
    if row is None or (row.deleting and not row.progress.loaded):
        return False, "NotDeployed", "nothing is sent to it"
    progress = row.progress
    if progress.withdrawn_at is not None:
        return False, "Withdrawn", "nothing new is sent to it"
    own = next((one for one in progress.conditions if one.type == ROUTED), None)
    if not progress.traffic_routed or own is None:
        return False, "NotYet", "it is sent requests once a replica has answered a trial prediction"
    kept = sorted(version for version in older if row.split_generation and row.new.traffic_split.get(version))
    if own.status and kept:
        # It goes once the shares that are asked for lead elsewhere: nothing would answer for its share.
        return False, "OlderHasShare", f"trafficSplit leaves {', '.join(kept)} a share, so that stays loaded too"
    if own.status or not any(older.values()):
        return True, ROUTED, own.message
    return False, "Refused", own.message


def word(reason: Reason) -> str:
    """A reason as Kubernetes writes them."""
    return "".join(part.capitalize() for part in reason.value.split("_"))
