"""Deployments between their protobuf and domain forms."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from urllib.parse import quote

from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.common.v1 import serving_pb2
from infermesh.deployer.v1 import backend_service_pb2, deployer_service_pb2, deployment_pb2, model_server_pb2

from services.common.errors import invalid
from services.common.feature_view_proto import views_to_proto
from services.common.schema_proto import mapping_to_proto, schema_from_proto, schema_to_proto
from services.common.server_address import ServerAddress
from services.deployer.domain.catalog import Change, Place, PublishedModel, PublishedVersion, server_model_of
from services.deployer.domain.deployment import (
    LOCAL,
    Autoscaling,
    Batching,
    Condition,
    Deployment,
    Health,
    NewDeployment,
    Padding,
    Resources,
    ServingOptions,
    Wish,
)
from services.deployer.domain.events import KeptEvent
from services.deployer.domain.external import ExternalBackend, Protocol

UPDATABLE = ("resources", "autoscaling", "batching", "serving", "external_backend")
"""Fields of the wish; "version" may change beside them."""


def new_from_proto(message: deployer_service_pb2.CreateDeploymentRequest, *, created_by: str) -> NewDeployment:
    """The deployment asked for, unchecked but for what the domain cannot say."""
    for field in ("model_name", "version", "deployment_name"):
        if not getattr(message, field):
            raise invalid(field, "", "it is required")
    return NewDeployment(
        model_name=message.model_name,
        version=message.version,
        deployment_name=message.deployment_name,
        wish=Wish(
            resources=_resources(message.resources),
            autoscaling=_autoscaling(message.autoscaling) if message.HasField("autoscaling") else None,
            batching=_batching(message.batching),
            serving=_serving(message.serving),
            external=_external(message.external_backend) if message.HasField("external_backend") else None,
        ),
        environment=message.environment or "prod",
        cluster=message.cluster or LOCAL,
        namespace=message.namespace,
        traffic_split=dict(message.traffic_split),
        request_id=message.request_id,
        created_by=created_by,
    )


def change_from_proto(message: deployer_service_pb2.UpdateDeploymentRequest) -> Callable[[Deployment], Wish]:
    """What an update makes of the current wish. Paths within a field take that field alone from the message."""
    sent = message.deployment
    paths = list(message.update_mask.paths) or [field.name for field, _ in sent.ListFields() if field.name in UPDATABLE]
    ignored = {"model_name", "deployment_name", "etag", "version"}
    for path in paths:
        if path.partition(".")[0] not in (*UPDATABLE, *ignored):
            raise invalid("update_mask", path, "paths of version, " + ", ".join(UPDATABLE))

    def change(current: Deployment) -> Wish:
        merged = wish_to_proto(current.wish)
        for path in paths:
            top, _, rest = path.partition(".")
            if top in UPDATABLE:
                _take(merged, sent, top, rest)
        return replace(
            current.wish,
            resources=_resources(merged.resources),
            autoscaling=_autoscaling(merged.autoscaling) if merged.HasField("autoscaling") else None,
            batching=_batching(merged.batching),
            serving=_serving(merged.serving),
            external=_external(merged.external_backend) if merged.HasField("external_backend") else None,
        )

    return change


def version_from_proto(message: deployer_service_pb2.UpdateDeploymentRequest) -> str:
    """The version that an update asks for; empty: it stays."""
    paths = message.update_mask.paths
    if not paths or "version" in paths:
        if "version" in paths and not message.deployment.version:
            raise invalid("deployment.version", "", "it is required, because update_mask names it")
        return str(message.deployment.version)
    return ""


def scale_change(replicas: int) -> Callable[[Deployment], Wish]:
    """The current wish with another number of replicas."""
    return lambda current: replace(current.wish, resources=replace(current.wish.resources, replicas=replicas))


def wish_to_proto(wish: Wish) -> deployment_pb2.Deployment:
    """A deployment message with the wish alone."""
    resources, batching, serving = wish.resources, wish.batching, wish.serving
    message = deployment_pb2.Deployment(
        resources=deployment_pb2.Resources(
            replicas=resources.replicas,
            cpu=resources.cpu,
            memory=resources.memory,
            gpu=resources.gpu,
            gpu_sharing=resources.gpu_sharing,
        ),
        batching=deployment_pb2.Batching(
            enabled=batching.enabled,
            max_batch_size=batching.max_batch_size,
            batch_timeout_ms=batching.batch_timeout_ms,
            target_latency_ms=batching.target_latency_ms,
            padding=_padding_to_proto(batching.padding),
        ),
        serving=deployment_pb2.ServingOptions(
            precision=serving.precision,
            accuracy_drop_max=serving.accuracy_drop_max,
            instances=serving.instances,
            threads=serving.threads,
            pinned=serving.pinned,
            deterministic=serving.deterministic,
            bake_time_s=serving.bake_time_s,
        ),
    )
    scaling = wish.autoscaling
    if scaling is not None:
        message.autoscaling.CopyFrom(
            deployment_pb2.Autoscaling(
                enabled=scaling.enabled,
                min_replicas=scaling.min_replicas,
                max_replicas=scaling.max_replicas,
                target_cpu_percent=scaling.target_cpu_percent,
                target_gpu_percent=scaling.target_gpu_percent,
                target_latency_ms=scaling.target_latency_ms,
                target_requests_per_sec=scaling.target_requests_per_sec,
                target_concurrency=scaling.target_concurrency,
                target_queue_depth=scaling.target_queue_depth,
                scale_down_stabilization_s=scaling.scale_down_stabilization_s,
                idle_timeout_s=scaling.idle_timeout_s,
                predictive=scaling.predictive,
            )
        )
    if wish.external is not None:
        message.external_backend.CopyFrom(_external_to_proto(wish.external))
    return message


def deployment_to_proto(
    deployment: Deployment, pool: Mapping[str, Place], *, previous_answers: bool = False
) -> deployment_pb2.Deployment:
    """The wire form of a deployment. `previous_answers`: the version that it had before is still published."""
    new, progress = deployment.new, deployment.progress
    message = wish_to_proto(deployment.wish)
    loaded = sorted(name for name in progress.loaded if name in pool)
    answers = bool(loaded) and progress.withdrawn_at is None and progress.health is not Health.UNHEALTHY
    asleep = progress.asleep_since is not None
    where = _endpoint(deployment, pool[loaded[0]]) if loaded else ""
    message.MergeFrom(
        deployment_pb2.Deployment(
            deployment_id=deployment.deployment_id,
            model_name=new.model_name,
            deployment_name=new.deployment_name,
            version=new.version,
            served_version=new.version if answers else deployment.previous_version if previous_answers else "",
            environment=new.environment,
            cluster=new.cluster,
            namespace=new.namespace,
            status=progress.status.value,
            health_status=_health(progress.health, previous_answers=previous_answers).value,
            replicas=deployment.replicas,
            ready_replicas=progress.ready_replicas,
            traffic_split=new.traffic_split,
            endpoint_url=where if answers and not asleep else "",
            error_message=progress.failure.message if progress.failure else "",
            error_reason=progress.failure.reason if progress.failure else "",
            conditions=[condition_to_proto(condition) for condition in progress.conditions],
            artifact_digest=deployment.recipe.artifact_digest,
            load_time_ms=progress.load_time_ms,
            memory_bytes=progress.memory_bytes,
            team=new.team,
            created_by=new.created_by,
            created_at=_timestamp(deployment.created_at),
            updated_at=_timestamp(deployment.updated_at),
            deployed_at=_timestamp(progress.deployed_at) if progress.deployed_at else None,
            generation=deployment.generation,
            observed_generation=progress.observed_generation,
            etag=deployment.etag,
        )
    )
    return message


def condition_to_proto(condition: Condition) -> deployment_pb2.Condition:
    """The wire form of what is known of a step."""
    return deployment_pb2.Condition(
        type=condition.type,
        status="True" if condition.status else "False",
        reason=condition.reason,
        message=condition.message,
        last_transition_time=_timestamp(condition.last_transition_time),
    )


def event_to_proto(kept: KeptEvent) -> deployer_service_pb2.DeploymentEvent:
    """The wire form of something that happened."""
    event = kept.event
    return deployer_service_pb2.DeploymentEvent(
        time=_timestamp(kept.time),
        type=event.type,
        status=event.status.value,
        message=event.message,
        actor=event.actor,
        generation=event.generation,
    )


def change_to_proto(revision: int, *, full: bool, change: Change) -> backend_service_pb2.WatchBackendsResponse:
    """The wire form of a step of what is published."""
    return backend_service_pb2.WatchBackendsResponse(
        revision=revision,
        full=full,
        models=[_model(model) for model in change.models],
        removed_models=change.removed,
    )


def server_to_proto(place: Place, *, up: bool, loaded: int, software: str) -> model_server_pb2.ModelServer:
    """The wire form of a model server."""
    return model_server_pb2.ModelServer(
        server_id=place.server_id,
        cluster=LOCAL,
        http_address=place.http_address,
        grpc_address=place.grpc_address,
        ready=up,
        software=software,
        loaded_versions=loaded,
    )


def _endpoint(deployment: Deployment, place: Place) -> str:
    """Where a model server can be asked for it, without the gateway."""
    external, name = deployment.wish.external, quote(server_model_of(deployment), safe="")
    if external is None:
        return f"http://{place.http_address}/v2/models/{name}"
    if external.speaks.over_grpc:
        return place.grpc_address
    folder = {Protocol.OIP_REST: "v2/models", Protocol.TENSORFLOW_REST: "v1/models"}.get(external.speaks, "predictions")
    origin = place.http_address if ServerAddress.of(place.http_address).tls else f"http://{place.http_address}"
    return f"{origin}/{folder}/{name}"


def _take(merged: deployment_pb2.Deployment, sent: deployment_pb2.Deployment, top: str, rest: str) -> None:
    source, target = getattr(sent, top), getattr(merged, top)
    if not rest:
        merged.ClearField(top)  # type: ignore[arg-type]
        if sent.HasField(top):  # type: ignore[arg-type]
            getattr(merged, top).CopyFrom(source)
        return
    if rest not in source.DESCRIPTOR.fields_by_name:
        allowed = ", ".join(source.DESCRIPTOR.fields_by_name)
        raise invalid("update_mask", f"{top}.{rest}", f"{top}. followed by one of: {allowed}")
    if source.DESCRIPTOR.fields_by_name[rest].is_repeated:
        target.ClearField(rest)
        getattr(target, rest).extend(getattr(source, rest))
    elif source.DESCRIPTOR.fields_by_name[rest].has_presence and not source.HasField(rest):
        target.ClearField(rest)
    elif source.DESCRIPTOR.fields_by_name[rest].message_type is not None:
        target.ClearField(rest)
        getattr(target, rest).CopyFrom(getattr(source, rest))
    else:
        setattr(target, rest, getattr(source, rest))


def _external(message: deployment_pb2.ExternalBackend) -> ExternalBackend:
    return ExternalBackend(
        protocol=message.protocol,
        addresses=tuple(message.addresses),
        server_model_name=message.server_model_name,
        server_model_version=message.server_model_version,
        signature_name=message.signature_name,
        credentials=message.credentials,
        schema=schema_from_proto(message.schema) if message.HasField("schema") else None,
    )


def _external_to_proto(external: ExternalBackend) -> deployment_pb2.ExternalBackend:
    return deployment_pb2.ExternalBackend(
        protocol=external.protocol,
        addresses=external.addresses,
        server_model_name=external.server_model_name,
        server_model_version=external.server_model_version,
        signature_name=external.signature_name,
        credentials=external.credentials,
        schema=schema_to_proto(external.schema) if external.schema is not None else None,
    )


def _resources(message: deployment_pb2.Resources) -> Resources:
    return Resources(
        replicas=message.replicas if message.HasField("replicas") else 1,
        cpu=message.cpu,
        memory=message.memory,
        gpu=message.gpu,
        gpu_sharing=message.gpu_sharing,
    )


def _autoscaling(message: deployment_pb2.Autoscaling) -> Autoscaling:
    defaults = Autoscaling()
    return Autoscaling(
        enabled=message.enabled,
        min_replicas=message.min_replicas if message.HasField("min_replicas") else defaults.min_replicas,
        max_replicas=message.max_replicas or defaults.max_replicas,
        target_cpu_percent=message.target_cpu_percent,
        target_gpu_percent=message.target_gpu_percent,
        target_latency_ms=message.target_latency_ms,
        target_requests_per_sec=message.target_requests_per_sec,
        target_concurrency=message.target_concurrency,
        target_queue_depth=message.target_queue_depth,
        scale_down_stabilization_s=(
            message.scale_down_stabilization_s
            if message.HasField("scale_down_stabilization_s")
            else defaults.scale_down_stabilization_s
        ),
        idle_timeout_s=message.idle_timeout_s if message.HasField("idle_timeout_s") else defaults.idle_timeout_s,
        predictive=message.predictive,
    )


def _batching(message: deployment_pb2.Batching) -> Batching:
    defaults = Batching()
    return Batching(
        enabled=message.enabled if message.HasField("enabled") else defaults.enabled,
        max_batch_size=message.max_batch_size if message.HasField("max_batch_size") else defaults.max_batch_size,
        batch_timeout_ms=(
            message.batch_timeout_ms if message.HasField("batch_timeout_ms") else defaults.batch_timeout_ms
        ),
        target_latency_ms=message.target_latency_ms if message.HasField("target_latency_ms") else None,
        padding=_padding(message.padding) if message.HasField("padding") else None,
    )


def _padding(message: serving_pb2.Padding) -> Padding:
    return Padding(
        value=message.value,
        input_values=dict(message.input_values),
        lengths_input=message.lengths_input,
        trim_outputs=tuple(message.trim_outputs),
        waste_max=message.waste_max if message.HasField("waste_max") else Padding().waste_max,
    )


def _padding_to_proto(padding: Padding | None) -> serving_pb2.Padding | None:
    if padding is None:
        return None
    return serving_pb2.Padding(
        value=padding.value,
        input_values=padding.input_values,
        lengths_input=padding.lengths_input,
        trim_outputs=padding.trim_outputs,
        waste_max=padding.waste_max,
    )


def _serving(message: deployment_pb2.ServingOptions) -> ServingOptions:
    defaults = ServingOptions()
    return ServingOptions(
        precision=message.precision,
        accuracy_drop_max=(
            message.accuracy_drop_max if message.HasField("accuracy_drop_max") else defaults.accuracy_drop_max
        ),
        instances=message.instances or defaults.instances,
        threads=message.threads,
        pinned=message.pinned,
        deterministic=message.deterministic,
        bake_time_s=message.bake_time_s if message.HasField("bake_time_s") else defaults.bake_time_s,
    )


def _health(health: Health, *, previous_answers: bool) -> Health:
    """While the version before it answers in its place, it is not as bad as if none did."""
    return Health.DEGRADED if previous_answers and health is Health.UNHEALTHY else health


def _model(model: PublishedModel) -> serving_pb2.ServedModel:
    return serving_pb2.ServedModel(
        model_name=model.model_name, versions=[_version(version) for version in model.versions], team=model.team
    )


def _version(version: PublishedVersion) -> serving_pb2.ServedVersion:
    external = version.external
    return serving_pb2.ServedVersion(
        version=version.version,
        artifact_digest=version.artifact_digest,
        deployment_name=version.deployment_name,
        schema=schema_to_proto(version.schema),
        mapping=mapping_to_proto(version.mapping),
        batching=serving_pb2.BatchingPolicy(
            enabled=version.batching.enabled,
            max_batch_size=version.batching.max_batch_size,
            batch_timeout_ms=version.batching.batch_timeout_ms,
            target_latency_ms=version.target_latency_ms,
            padding=_padding_to_proto(version.batching.padding),
        ),
        backends=[
            serving_pb2.Backend(
                backend_id=place.server_id,
                http_address=place.http_address,
                grpc_address=place.grpc_address,
                server_model_name=version.server_model_name,
                capacity=1.0,
                protocol=external.protocol if external is not None else "",
                server_model_version=external.server_model_version if external is not None else "",
                signature_name=external.signature_name if external is not None else "",
                credentials=version.credential,
            )
            for place in version.places
        ],
        deterministic=version.deterministic,
        feature_views=views_to_proto(version.feature_views),
        reference_digest=version.reference_digest,
        cold=version.cold,
    )


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
