"""Deployments: make registered versions answer, follow how far they are, take them away."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TypedDict, Unpack

import grpc
from infermesh.client.errors import InfermeshError
from infermesh.client.transport import Pacer, Transport, all_pages, new_request_id
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc, deployment_pb2
from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc

WAIT_TIMEOUT_S = 120.0
"""How long a deployment is waited for where nothing else is said: four times what the slowest load should take."""
OUTAGE_TIMEOUT_S = 30.0
"""How long a deployment that is being followed may be out of reach before following fails."""
ROUTED_TIMEOUT_S = 5.0
"""How long gateways may take to learn of an active version before waiting for them ends."""
_LOOK_AGAIN_S = 15.0
"""A stream is trusted for so long, then the deployment is read anew: what happened between reading and watching is not
in the stream."""
_PAGE_SIZE = 200


class Wish(TypedDict, total=False):
    """What may be said of a new deployment beside its model and version."""

    name: str
    environment: str
    cluster: str
    namespace: str
    resources: deployment_pb2.Resources | None
    autoscaling: deployment_pb2.Autoscaling | None
    batching: deployment_pb2.Batching | None
    serving: deployment_pb2.ServingOptions | None
    external_backend: deployment_pb2.ExternalBackend | None
    traffic_split: Mapping[str, int] | None


class Deployments:
    """What is deployed."""

    def __init__(
        self,
        transport: Transport,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = transport
        self._stub = deployer_service_pb2_grpc.DeployerServiceStub(transport.channel)
        self._router = router_service_pb2_grpc.RouterServiceStub(transport.channel)
        self._monotonic = monotonic
        self._sleep = sleep

    def deploy(
        self, model: str, version: str, *, request_id: str = "", timeout_s: float | None = None, **wish: Unpack[Wish]
    ) -> deployment_pb2.Deployment:
        """Deploys a version and returns at once; `wait` returns when it answers. It is a registered one, or one that
        the servers of `external_backend` have.

        Without a name it is called after the version, "v1-0-0". `traffic_split` (whole percent by version) holds once
        the version answers; without it the shares stay as they are, and a model's first version gets all. The same
        `request_id` again is the same deployment; one is made where none is given. Raises DEPLOYMENT_EXISTS where the
        version is deployed. `cluster` names a Kubernetes cluster that the mesh was given, and `namespace` one there;
        without them it runs on the mesh's own model servers, or in the namespace of the model's team.
        """
        request = _creation(model, version, wish)
        request.request_id = request_id or new_request_id()
        return self._transport.call(self._stub.CreateDeployment, request, timeout_s=timeout_s)

    def get(self, model: str, name: str, *, timeout_s: float | None = None) -> deployment_pb2.Deployment:
        """One deployment, as it is now. Raises DEPLOYMENT_NOT_FOUND."""
        request = deployer_service_pb2.GetDeploymentRequest(model_name=model, deployment_name=name)
        return self._transport.call(self._stub.GetDeployment, request, timeout_s=timeout_s)

    def list(
        self, *, model: str = "", status: str = "", limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[deployment_pb2.Deployment]:
        """Deployments of a model, or of all, in order of model and name."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> deployer_service_pb2.ListDeploymentsResponse:
            request = deployer_service_pb2.ListDeploymentsRequest(
                model_name=model, status=status, page_size=size, page_token=token
            )
            return self._transport.call(self._stub.ListDeployments, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.deployments, limit=limit)

    def update(
        self,
        model: str,
        name: str,
        *,
        version: str = "",
        resources: deployment_pb2.Resources | None = None,
        autoscaling: deployment_pb2.Autoscaling | None = None,
        batching: deployment_pb2.Batching | None = None,
        serving: deployment_pb2.ServingOptions | None = None,
        external_backend: deployment_pb2.ExternalBackend | None = None,
        etag: str = "",
        timeout_s: float | None = None,
    ) -> deployment_pb2.Deployment:
        """Changes what is given and returns at once; what answers keeps answering until the change is ready.

        Another `version` rolls the deployment over to it. Raises ETAG_MISMATCH, DEPLOYMENT_TERMINATING.
        """
        wish = deployment_pb2.Deployment(
            model_name=model,
            deployment_name=name,
            version=version,
            resources=resources,
            autoscaling=autoscaling,
            batching=batching,
            serving=serving,
            external_backend=external_backend,
            etag=etag,
        )
        request = deployer_service_pb2.UpdateDeploymentRequest(deployment=wish)
        return self._transport.call(self._stub.UpdateDeployment, request, timeout_s=timeout_s)

    def check(
        self, model: str, version: str, *, timeout_s: float | None = None, **wish: Unpack[Wish]
    ) -> deployer_service_pb2.ValidateDeploymentResponse:
        """How each check of a deployment goes that `deploy` with the same words would make. Changes nothing."""
        request = deployer_service_pb2.ValidateDeploymentRequest(deployment=_creation(model, version, wish))
        return self._transport.call(self._stub.ValidateDeployment, request, timeout_s=timeout_s)

    def events(
        self, model: str, name: str, *, limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[deployer_service_pb2.DeploymentEvent]:
        """What happened to the deployments of that name in the last 30 days, the newest first."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> deployer_service_pb2.ListDeploymentEventsResponse:
            request = deployer_service_pb2.ListDeploymentEventsRequest(
                model_name=model, deployment_name=name, page_size=size, page_token=token
            )
            return self._transport.call(self._stub.ListDeploymentEvents, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.events, limit=limit)

    def remove(
        self, model: str, name: str, *, etag: str = "", timeout_s: float | None = None
    ) -> deployment_pb2.Deployment:
        """Begins to remove a deployment: it is taken out of the traffic, drained, unloaded, forgotten."""
        request = deployer_service_pb2.DeleteDeploymentRequest(model_name=model, deployment_name=name, etag=etag)
        return self._transport.call(self._stub.DeleteDeployment, request, timeout_s=timeout_s)

    def restart(self, model: str, name: str, *, timeout_s: float | None = None) -> deployment_pb2.Deployment:
        """Tries again at once what failed, and loads anew what is loaded."""
        request = deployer_service_pb2.RestartDeploymentRequest(model_name=model, deployment_name=name)
        return self._transport.call(self._stub.RestartDeployment, request, timeout_s=timeout_s)

    def watch(
        self, model: str, name: str, *, timeout_s: float = WAIT_TIMEOUT_S, outage_timeout_s: float = OUTAGE_TIMEOUT_S
    ) -> Iterator[deployment_pb2.Deployment]:
        """The deployment as it is, then whenever it changes; ends when it is removed.

        A stream that breaks is opened again, so that a restart of the deployer or of the gateway goes unseen, up to
        `outage_timeout_s` seconds. Raises InfermeshError: DEPLOYMENT_NOT_FOUND where there is none, DEADLINE_EXCEEDED
        after `timeout_s` seconds.
        """
        deadline = self._monotonic() + timeout_s
        seen: deployment_pb2.Deployment | None = None
        pacer: Pacer | None = None
        while (left_s := deadline - self._monotonic()) > 0:
            trusted_s = min(left_s, _LOOK_AGAIN_S)
            opened_s = self._monotonic()
            try:
                for now, removed in self._changes(model, name, timeout_s=trusted_s):
                    if seen is not None and now.deployment_id != seen.deployment_id:
                        return
                    if now != seen:
                        pacer, seen = None, now
                        yield now
                    if removed:
                        return
                error = _broken(model, name)
            except InfermeshError as met:
                error = met
            if error.reason == "DEPLOYMENT_NOT_FOUND" and seen is not None:
                return
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and self._monotonic() - opened_s >= trusted_s:
                pacer = None
                continue
            pacer = pacer or Pacer(timeout_s=outage_timeout_s, monotonic=self._monotonic, sleep=self._sleep)
            if seen is None or not error.is_interruption or not pacer.pause():
                raise error
        raise _overdue(model, name, seen, timeout_s)

    def wait(self, model: str, name: str, *, timeout_s: float = WAIT_TIMEOUT_S) -> deployment_pb2.Deployment:
        """The deployment once it is active and gateways route to it, so that the next prediction finds it.

        Raises InfermeshError with the deployment's own reason where it failed.
        """
        for deployment in self.watch(model, name, timeout_s=timeout_s):
            if is_settled(deployment):
                raise_if_failed(deployment)
                self.wait_routed(deployment)
                return deployment
        raise _gone(model, name)

    def wait_routed(self, deployment: deployment_pb2.Deployment, *, timeout_s: float = ROUTED_TIMEOUT_S) -> bool:
        """Whether every gateway and batcher knows an active version. False where that is not known in time.

        Nearly always they know it before it is called active, but not where one of them hung meanwhile; and a router
        that is away tells them when it is back.
        """
        deadline = self._monotonic() + timeout_s
        pacer = Pacer(timeout_s=timeout_s, first_s=0.01, most_s=0.25, monotonic=self._monotonic, sleep=self._sleep)
        request = router_service_pb2.GetTrafficRequest(model_name=deployment.model_name)
        while (left_s := deadline - self._monotonic()) > 0:
            try:
                traffic = self._transport.call(self._router.GetTraffic, request, timeout_s=left_s)
            except InfermeshError as error:
                if not error.is_interruption and error.reason != "MODEL_NOT_SERVED":
                    raise
            else:
                told = all(item.status == "True" for item in traffic.status_conditions if item.type == "Propagated")
                if told and deployment.version in traffic.ready_versions:
                    return True
            if not pacer.pause():
                break
        return False

    def wait_removed(self, model: str, name: str, *, timeout_s: float = WAIT_TIMEOUT_S) -> None:
        """Returns once there is no such deployment any more."""
        try:
            for _ in self.watch(model, name, timeout_s=timeout_s):
                continue
        except InfermeshError as error:
            if error.reason != "DEPLOYMENT_NOT_FOUND":
                raise

    def _changes(self, model: str, name: str, *, timeout_s: float) -> Iterator[tuple[deployment_pb2.Deployment, bool]]:
        """The deployment as it is, then its changes; the flag says that it was removed."""
        current = self.get(model, name, timeout_s=min(timeout_s, self._transport.timeout_s))
        yield current, False
        request = deployer_service_pb2.WatchDeploymentsRequest(model_name=model)
        for change in self._transport.stream(self._stub.WatchDeployments, request, timeout_s=timeout_s):
            if change.deployment.deployment_id == current.deployment_id:
                yield change.deployment, change.removed


def _creation(model: str, version: str, wish: Wish) -> deployer_service_pb2.CreateDeploymentRequest:
    return deployer_service_pb2.CreateDeploymentRequest(
        model_name=model,
        version=version,
        deployment_name=wish.get("name") or default_name(version),
        environment=wish.get("environment", ""),
        cluster=wish.get("cluster", ""),
        namespace=wish.get("namespace", ""),
        resources=wish.get("resources"),
        autoscaling=wish.get("autoscaling"),
        batching=wish.get("batching"),
        serving=wish.get("serving"),
        external_backend=wish.get("external_backend"),
        traffic_split=wish.get("traffic_split"),
    )


def default_name(version: str) -> str:
    """What a deployment of a version is called where nobody names it: "v1.0.0-rc.1" is "v1-0-0-rc-1"."""
    digits = version.strip().lower()
    return (digits if digits.startswith("v") else f"v{digits}").replace(".", "-").replace("+", "-")


def is_settled(deployment: deployment_pb2.Deployment) -> bool:
    """Whether what is wished now has been carried out, or has failed."""
    return deployment.status in {"active", "failed"} and deployment.observed_generation >= deployment.generation


def has_its_traffic(deployment: deployment_pb2.Deployment) -> bool:
    """Whether what a version was to have of the traffic was handed to the router, or refused by it."""
    return any(step.type == "Routed" for step in deployment.conditions)


def is_stopped(deployment: deployment_pb2.Deployment) -> bool:
    """Whether nothing of it is loaded, because it was scaled to no replicas."""
    return any(step.type == "Stopped" and step.status == "True" for step in deployment.conditions)


def raise_if_failed(deployment: deployment_pb2.Deployment) -> None:
    """Raises the failure of a deployment that failed."""
    if deployment.status == "failed":
        raise InfermeshError(
            f"{deployment.model_name} {deployment.version} cannot be deployed: {deployment.error_message}",
            code=grpc.StatusCode.FAILED_PRECONDITION,
            reason=deployment.error_reason or grpc.StatusCode.FAILED_PRECONDITION.name,
        )


def _broken(model: str, name: str) -> InfermeshError:
    return InfermeshError(
        f"the mesh stopped telling of deployment {name} of {model}",
        code=grpc.StatusCode.UNAVAILABLE,
        reason=grpc.StatusCode.UNAVAILABLE.name,
    )


def _gone(model: str, name: str) -> InfermeshError:
    return InfermeshError(
        f"deployment {name} of {model} was removed", code=grpc.StatusCode.NOT_FOUND, reason="DEPLOYMENT_NOT_FOUND"
    )


def _overdue(model: str, name: str, seen: deployment_pb2.Deployment | None, timeout_s: float) -> InfermeshError:
    state = "not heard of" if seen is None else seen.status
    said = [step.message for step in seen.conditions if step.status != "True" and step.message] if seen else []
    why = f" ({said[0]})" if said else ""
    return InfermeshError(
        f"deployment {name} of {model} is {state} after {timeout_s:g} s{why}",
        code=grpc.StatusCode.DEADLINE_EXCEEDED,
        reason=grpc.StatusCode.DEADLINE_EXCEEDED.name,
        advice=f"It goes on: `infermesh deployments {model}` shows how far it is.",
    )
