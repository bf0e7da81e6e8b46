"""Deployments between their domain form and rows of the table `deployments`."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import RowMapping

from services.deployer.domain.deployment import (
    Autoscaling,
    Batching,
    Condition,
    Deployment,
    Failure,
    Health,
    NewDeployment,
    ObjectWish,
    Progress,
    Recipe,
    Resources,
    ServingOptions,
    Status,
    Wish,
)
from services.deployer.domain.events import Event, KeptEvent
from services.deployer.domain.external import ExternalBackend

_RESOURCES = TypeAdapter(Resources)
_AUTOSCALING = TypeAdapter(Autoscaling)
_BATCHING = TypeAdapter(Batching)
_SERVING = TypeAdapter(ServingOptions)
_EXTERNAL = TypeAdapter(ExternalBackend)
_OF_OBJECT = TypeAdapter(ObjectWish)
_RECIPE = TypeAdapter(Recipe)
_CONDITIONS = TypeAdapter(tuple[Condition, ...])

Parameters = dict[str, object]


def wish_parameters(wish: Wish) -> Parameters:
    """The columns of what is wished."""
    return {
        "replicas": wish.resources.replicas,
        "resources": _text(_RESOURCES, wish.resources),
        "autoscaling": _text(_AUTOSCALING, wish.autoscaling) if wish.autoscaling is not None else None,
        "batching": _text(_BATCHING, wish.batching),
        "serving": _text(_SERVING, wish.serving),
        "external": _text(_EXTERNAL, wish.external) if wish.external is not None else None,
        "of_object": _text(_OF_OBJECT, wish.of_object),
    }


def new_parameters(new: NewDeployment, recipe: Recipe) -> Parameters:
    """The columns of a deployment about to be made."""
    return {
        "model": new.model_name,
        "version": new.version,
        "name": new.deployment_name,
        "environment": new.environment,
        "cluster": new.cluster,
        "namespace": new.namespace,
        "traffic_split": json.dumps(dict(new.traffic_split)),
        "request_id": new.request_id or None,
        "created_by": new.created_by,
        "team": new.team,
        "recipe": _text(_RECIPE, recipe),
        **wish_parameters(new.wish),
    }


def progress_parameters(progress: Progress) -> Parameters:
    """The columns of what has come of it."""
    failure = progress.failure or Failure("", "")
    return {
        "status": progress.status.value,
        "health": progress.health.value,
        "observed_generation": progress.observed_generation,
        "loaded": json.dumps(dict(progress.loaded)),
        "ready_replicas": progress.ready_replicas,
        "error_reason": failure.reason,
        "error_message": failure.message,
        "conditions": _text(_CONDITIONS, progress.conditions),
        "attempts": progress.attempts,
        "next_attempt_at": progress.next_attempt_at,
        "load_time_ms": progress.load_time_ms,
        "memory_bytes": progress.memory_bytes,
        "deployed_at": progress.deployed_at,
        "withdrawn_at": progress.withdrawn_at,
        "traffic_routed": progress.traffic_routed,
        "asleep_since": progress.asleep_since,
        "scaled_replicas": progress.replicas,
        "warm_until": progress.warm_until,
    }


def deployment_of(row: RowMapping) -> Deployment:
    """The deployment that a row holds."""
    values: dict[str, Any] = dict(row)
    scaling, external = values["autoscaling_config"], values["external_backend"]
    wish = Wish(
        resources=_RESOURCES.validate_python(values["resources"]),
        autoscaling=_AUTOSCALING.validate_python(scaling) if scaling is not None else None,
        batching=_BATCHING.validate_python(values["batching_config"]),
        serving=_SERVING.validate_python(values["serving_options"]),
        external=_EXTERNAL.validate_python(external) if external is not None else None,
        of_object=_OF_OBJECT.validate_python(values["object_wish"]),
    )
    new = NewDeployment(
        model_name=values["model_id"],
        version=values["version_id"],
        deployment_name=values["deployment_name"],
        wish=wish,
        environment=values["environment"],
        cluster=values["cluster"],
        namespace=values["namespace"],
        traffic_split=values["traffic_split"],
        request_id=values["request_id"] or "",
        created_by=values["created_by"],
        team=values["team_id"],
    )
    return Deployment(
        deployment_id=str(values["id"]),
        new=new,
        recipe=_RECIPE.validate_python(values["recipe"], strict=False),
        wish=wish,
        progress=_progress(values),
        generation=values["generation"],
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        deleting=values["deleting"],
        successor=str(values["successor_id"] or ""),
        previous_version=values["previous_version"],
        split_generation=values["split_generation"],
    )


def event_parameters(new: NewDeployment, event: Event) -> Parameters:
    """The columns of an event about to be stored."""
    return {
        "model": new.model_name,
        "name": new.deployment_name,
        "type": event.type,
        "status": event.status.value,
        "message": event.message,
        "actor": event.actor,
        "generation": event.generation,
    }


def event_of(row: RowMapping) -> KeptEvent:
    """The event that a row holds."""
    event = Event(row["type"], Status(row["status"]), row["message"], row["generation"], row["actor"])
    return KeptEvent(row["id"], row["time"], event)


def _progress(values: Mapping[str, Any]) -> Progress:
    reason = values["error_reason"]
    return Progress(
        status=Status(values["status"]),
        health=Health(values["health_status"]),
        observed_generation=values["observed_generation"],
        loaded=values["loaded"],
        ready_replicas=values["ready_replicas"],
        failure=Failure(reason, values["error_message"]) if reason else None,
        conditions=_CONDITIONS.validate_python(values["conditions"]),
        attempts=values["attempts"],
        next_attempt_at=values["next_attempt_at"],
        load_time_ms=values["load_time_ms"],
        memory_bytes=values["memory_bytes"],
        deployed_at=values["deployed_at"],
        withdrawn_at=values["withdrawn_at"],
        traffic_routed=values["traffic_routed"],
        asleep_since=values["asleep_since"],
        replicas=values["scaled_replicas"],
        warm_until=values["warm_until"],
    )


def _text(adapter: TypeAdapter[Any], value: object) -> str:
    return adapter.dump_json(value).decode()
