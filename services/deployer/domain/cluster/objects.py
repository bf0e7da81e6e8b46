"""A ModelDeployment as the deployer reads and writes it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.common.body import Body, items, name_of, namespace_of, text, whole
from services.common.kubernetes.names import API_VERSION, FORECAST, GROUP, MIRRORED, ROUTED, digest
from services.deployer.domain.cluster.floor import Floor
from services.deployer.domain.cluster.wishes import spec_of, wish_of
from services.deployer.domain.deployment import Condition, NewDeployment, Wish

FIELD_MANAGER = "infermesh-deployer"
CREATED_BY = f"{GROUP}/created-by"
CHANGED_BY = f"{GROUP}/changed-by"
REQUEST_ID = f"{GROUP}/request-id"
NAME_LENGTH_MAX = 40
OWN = (MIRRORED, ROUTED, FORECAST)
"""The types of the conditions that the deployer writes."""
_OTHERS = re.compile(r"[^a-z0-9]+")
_STATUS = "status"
_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_OPERATOR = "infermesh-operator"


@dataclass(frozen=True, slots=True)
class Told:
    """What the operator says of an object, in its status."""

    phase: str = ""
    message: str = ""
    current: bool = False
    """Whether it speaks of the object as it is now."""
    replicas: int = 0
    """How many there are, or are about to be."""
    conditions: tuple[Condition, ...] = ()
    terminating: bool = False
    """Whether the object is about to go."""


@dataclass(frozen=True, slots=True)
class ClusterObject:
    """A ModelDeployment."""

    name: str
    namespace: str
    uid: str
    generation: int
    resource_version: str
    made_at: str
    """As text that is in order of time."""
    terminating: bool
    new: NewDeployment
    """What is wished, as if it were about to be made; `cluster` is the reader's."""
    manager: str
    """Who changed the wish last, by the field manager of Kubernetes."""
    told: Told = Told()
    said: tuple[Condition, ...] = ()
    """The conditions that are the deployer's own, as they stand there."""
    said_generation: int = 0
    """Of which generation all of them speak."""
    floor: Floor | None = None
    """The floor of replicas that stands in the status, whether it holds still or not."""
    names_itself: bool = True
    """Whether `spec` states the deployment's name; else it is the object's."""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def wish(self) -> Wish:
        """What is wished and may change."""
        return self.new.wish

    @property
    def said_of_now(self) -> bool:
        """Whether the deployer's conditions speak of the object as it is now."""
        return self.said_generation >= self.generation

    @property
    def actor(self) -> str:
        """Who is behind the last change: whom the deployer acted for, else who wrote the object."""
        by = self.annotations.get(CHANGED_BY) or self.annotations.get(CREATED_BY) or ""
        return by if self.manager == FIELD_MANAGER else self.manager


def object_name(model_name: str, deployment_name: str) -> str:
    """The name of the object of a deployment: at most 40 characters, another one for another deployment, and always
    the same. Of the shape that Services may have, which are named after it."""
    words = _OTHERS.sub("-", f"{model_name}-{deployment_name}").strip("-")
    tail = digest(f"{model_name}\0{deployment_name}")[:8]
    head = words if words[:1].isalpha() else f"m-{words}"
    return f"{head[: NAME_LENGTH_MAX - len(tail) - 1].rstrip('-')}-{tail}"


def manifest_of(
    new: NewDeployment, *, name: str, names_itself: bool = True, changed_by: str = "", over: ClusterObject | None = None
) -> Body:
    """The object as the deployer applies it: all of the wish. `over`: exactly the state that it replaces, so that a
    change by somebody else in between is not lost, and a namesake not changed."""
    annotations = {CREATED_BY: new.created_by, REQUEST_ID: new.request_id, CHANGED_BY: changed_by}
    metadata: dict[str, object] = {
        "name": name,
        "namespace": new.namespace,
        "annotations": {key: value for key, value in annotations.items() if value},
    }
    if over is not None:
        metadata |= {"uid": over.uid, "resourceVersion": over.resource_version}
    spec: dict[str, object] = {
        "modelName": new.model_name,
        "version": new.version,
        "environment": new.environment,
        **spec_of(new.wish),
    }
    if names_itself:
        spec["deploymentName"] = new.deployment_name
    return {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": metadata, "spec": spec}


def changed(over: ClusterObject, version: str, wish: Wish, *, changed_by: str) -> Body:
    """The object with another wish."""
    new = replace(over.new, version=version, wish=wish)
    return manifest_of(new, name=over.name, names_itself=over.names_itself, changed_by=changed_by, over=over)


def read_object(body: Body, *, cluster: str) -> ClusterObject:
    """What an API server sent. It has checked it: what is not as it should be is read as absent."""
    annotations = {key: text(body, "metadata", "annotations", key) for key in (CREATED_BY, CHANGED_BY, REQUEST_ID)}
    spec = body.get("spec")
    wish = wish_of(spec if isinstance(spec, Mapping) else {})
    first, last = _managers(body)
    named = text(spec, "deploymentName")
    new = NewDeployment(
        model_name=text(spec, "modelName"),
        version=text(spec, "version"),
        deployment_name=named or name_of(body),
        wish=wish,
        environment=text(spec, "environment", default="prod"),
        cluster=cluster,
        namespace=namespace_of(body),
        traffic_split=wish.of_object.traffic_split,
        request_id=annotations[REQUEST_ID] if first == FIELD_MANAGER else "",
        created_by=annotations[CREATED_BY] if first == FIELD_MANAGER else first,
    )
    generation = whole(body, "metadata", "generation")
    conditions = tuple(_condition(one) for one in items(body, _STATUS, "conditions"))
    told = Told(
        phase=text(body, _STATUS, "phase"),
        message=text(body, _STATUS, "message"),
        current=whole(body, _STATUS, "observedGeneration") >= generation,
        replicas=whole(body, _STATUS, "replicas"),
        conditions=tuple(one for one in conditions if one.type not in (MIRRORED, ROUTED)),
        terminating=bool(text(body, "metadata", "deletionTimestamp")),
    )
    return ClusterObject(
        name=name_of(body),
        namespace=namespace_of(body),
        uid=text(body, "metadata", "uid"),
        generation=generation,
        resource_version=text(body, "metadata", "resourceVersion"),
        made_at=text(body, "metadata", "creationTimestamp"),
        terminating=bool(text(body, "metadata", "deletionTimestamp")),
        new=new,
        manager=last,
        told=told,
        said=tuple(one for one in conditions if one.type in OWN),
        said_generation=min(
            (
                whole(one, "observedGeneration")
                for one in items(body, _STATUS, "conditions")
                if text(one, "type") in OWN
            ),
            default=0,
        ),
        floor=_floor(body),
        names_itself=bool(named),
        annotations=annotations,
    )


def status_of(found: ClusterObject, conditions: tuple[Condition, ...], floor: Floor | None) -> Body:
    """The deployer's part of the status, as it is applied: all of it. The uid keeps a namesake from getting it."""
    forecast: dict[str, object] = {}
    if floor is not None:
        forecast["forecast"] = {"replicas": floor.replicas, "until": floor.until.strftime(_MOMENT)}
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelDeployment",
        "metadata": {"name": found.name, "namespace": found.namespace, "uid": found.uid},
        "status": {
            **forecast,
            "conditions": [
                {
                    "type": one.type,
                    "status": "True" if one.status else "False",
                    "observedGeneration": found.generation,
                    "lastTransitionTime": one.last_transition_time.strftime(_MOMENT),
                    "reason": one.reason,
                    "message": one.message,
                }
                for one in conditions
            ],
        },
    }


def _managers(body: Body) -> tuple[str, str]:
    """Who made the object, and who changed its wish last, as far as the API server still says so: by the earliest and
    the latest of those who write more than the status."""
    found = sorted(
        (text(one, "time"), text(one, "manager"))
        for one in items(body, "metadata", "managedFields")
        if text(one, "subresource") != _STATUS and text(one, "manager") != _OPERATOR
    )
    return (found[0][1], found[-1][1]) if found else ("", "")


def _floor(body: Body) -> Floor | None:
    replicas = whole(body, _STATUS, "forecast", "replicas")
    return Floor(replicas, _moment(text(body, _STATUS, "forecast", "until"))) if replicas else None


def _condition(said: object) -> Condition:
    return Condition(
        type=text(said, "type"),
        status=text(said, "status") == "True",
        reason=text(said, "reason"),
        message=text(said, "message"),
        last_transition_time=_moment(text(said, "lastTransitionTime")),
    )


def _moment(written: str) -> datetime:
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        return datetime.fromisoformat("1970-01-01T00:00:00+00:00")
