"""The deployer's deployments, in memory, and served over gRPC out of that memory."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf.message import Message
from infermesh.deployer.v1 import deployer_service_pb2 as pb
from infermesh.deployer.v1 import deployment_pb2

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.interceptors import MeshInterceptor
from services.common.signals import Signal
from services.common.telemetry.metrics import RpcMetrics, new_registry
from services.common.telemetry.tracing import Tracing
from services.router.domain.deployments import Deployed, Spec

_Context = grpc.aio.ServicerContext[Any, Any]


class FakeDeployments:
    """A `Deployments`. What is deployed stays "deploying" until `settle` says otherwise; `on_deploy` is told of it."""

    def __init__(self) -> None:
        self.deployments: dict[tuple[str, str], Deployed] = {}
        self.asked: list[Spec] = []
        """What was to be deployed, but for repetitions."""
        self.restarted: list[str] = []
        self.refusal: MeshError | None = None
        self.on_deploy: Callable[[Spec], None] = lambda _: None
        self._request_ids: set[str] = set()
        self._changed = Signal()

    def put(self, deployment: Deployed) -> None:
        """It is there."""
        self.deployments[deployment.model_name, deployment.deployment_name] = deployment
        self._changed.fire()

    def settle(self, model_name: str, deployment_name: str, status: str, error_message: str = "") -> None:
        """It has come so far."""
        known = self.deployments[model_name, deployment_name]
        self.put(replace(known, status=status, error_message=error_message))

    async def every(self, model_name: str) -> Sequence[Deployed]:
        """All of a model, or all."""
        return [one for (model, _), one in sorted(self.deployments.items()) if model_name in ("", model)]

    async def deploy(self, spec: Spec, *, request_id: str) -> None:
        """Begins, once."""
        if self.refusal is not None:
            raise self.refusal
        if request_id and request_id in self._request_ids:
            return
        if (spec.model_name, spec.deployment_name) in self.deployments:
            raise MeshError(Reason.DEPLOYMENT_EXISTS, f"deployment {spec.deployment_name!r} exists")
        self._request_ids.add(request_id)
        self.asked.append(spec)
        self.put(Deployed(spec.model_name, spec.deployment_name, spec.version, "deploying", "", spec.spec))
        self.on_deploy(spec)

    async def restart(self, model_name: str, deployment_name: str) -> None:
        """It is tried again."""
        self._known(model_name, deployment_name)
        self.restarted.append(deployment_name)
        self.settle(model_name, deployment_name, "deploying")

    async def wait(self, model_name: str, deployment_name: str, *, timeout_s: float) -> Deployed:
        """Until it is settled."""
        await self._changed.until(
            lambda: self._known(model_name, deployment_name).status in ("active", "failed"), timeout_s=timeout_s
        )
        return self._known(model_name, deployment_name)

    def _known(self, model_name: str, deployment_name: str) -> Deployed:
        known = self.deployments.get((model_name, deployment_name))
        if known is None:
            raise MeshError(Reason.DEPLOYMENT_NOT_FOUND, f"model {model_name!r} has no deployment {deployment_name!r}")
        return known


def add_deployments(fake: FakeDeployments, server: grpc.aio.Server) -> None:
    """DeployerService as far as the router calls it, out of a `FakeDeployments`."""

    async def every(request: pb.ListDeploymentsRequest, _: _Context) -> pb.ListDeploymentsResponse:
        """Pages of one, so that whoever reads has to turn them."""
        found = await fake.every(request.model_name)
        place = int(request.page_token or 0)
        return pb.ListDeploymentsResponse(
            deployments=[_shown(one) for one in found[place : place + 1]],
            next_page_token=str(place + 1) if len(found) > place + 1 else "",
        )

    async def deploy(request: pb.CreateDeploymentRequest, _: _Context) -> deployment_pb2.Deployment:
        spec = pb.CreateDeploymentRequest()
        spec.CopyFrom(request)
        for field in ("model_name", "version", "deployment_name", "request_id"):
            spec.ClearField(field)
        asked = Spec(
            request.model_name, request.version, request.deployment_name, spec.SerializeToString(deterministic=True)
        )
        await fake.deploy(asked, request_id=request.request_id)
        return deployment_pb2.Deployment()

    async def restart(request: pb.RestartDeploymentRequest, _: _Context) -> deployment_pb2.Deployment:
        await fake.restart(request.model_name, request.deployment_name)
        return deployment_pb2.Deployment()

    async def wait(request: pb.WaitDeploymentRequest, _: _Context) -> deployment_pb2.Deployment:
        return _shown(await fake.wait(request.model_name, request.deployment_name, timeout_s=request.timeout_s))

    def handler(call: Any, request: type[Message]) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            call, request_deserializer=request.FromString, response_serializer=lambda answer: answer.SerializeToString()
        )

    handlers = {
        "ListDeployments": handler(every, pb.ListDeploymentsRequest),
        "CreateDeployment": handler(deploy, pb.CreateDeploymentRequest),
        "RestartDeployment": handler(restart, pb.RestartDeploymentRequest),
        "WaitDeployment": handler(wait, pb.WaitDeploymentRequest),
    }
    service = pb.DESCRIPTOR.services_by_name["DeployerService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def errors_as_services_send_them() -> MeshInterceptor:
    """What turns a `MeshError` into the status that services answer with."""
    return MeshInterceptor(
        clock=SystemClock(),
        metrics=RpcMetrics(new_registry()),
        tracing=Tracing(service="test", instance="test-0", otlp_endpoint=""),
    )


def _shown(deployment: Deployed) -> deployment_pb2.Deployment:
    spec = pb.CreateDeploymentRequest.FromString(deployment.spec)
    shown = deployment_pb2.Deployment(
        model_name=deployment.model_name,
        deployment_name=deployment.deployment_name,
        version=deployment.version,
        status=deployment.status,
        error_message=deployment.error_message,
        environment=spec.environment,
        cluster=spec.cluster,
        namespace=spec.namespace,
    )
    for field in ("resources", "autoscaling", "batching", "serving", "external_backend"):
        if spec.HasField(field):
            getattr(shown, field).CopyFrom(getattr(spec, field))
    return shown
