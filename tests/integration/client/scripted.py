"""A mesh in one process: every public service on one port, as behind a gateway, saying what a test wants."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import grpc
from google.api import httpbody_pb2
from google.protobuf import json_format
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from infermesh.client.cli.app import build_app
from infermesh.client.health import SERVICES
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc, deployment_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc
from infermesh.registry.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    model_pb2,
    model_version_pb2,
    registry_service_pb2,
)
from infermesh.router.v1 import canary_pb2, receiver_pb2, router_service_pb2, traffic_pb2
from typer.testing import CliRunner, Result

from tests.integration.client.histories import Histories
from tests.integration.client.monitoring import Monitor
from tests.integration.client.refusing import refuse
from tests.integration.client.rollouts import Rollouts

Deployment = deployment_pb2.Deployment
Step = Deployment | None | grpc.StatusCode
"""What a watching tells next: a deployment, None for its removal, or a status to break off with."""


class Registry(Histories):
    """Keeps versions; the same version again with another artifact is refused. Pages hold two."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[registry_service_pb2.CreateModelRequest] = []
        self.reads_no_files = False
        self.searches: list[registry_service_pb2.SearchModelsRequest] = []
        self.versions: dict[tuple[str, str], model_version_pb2.ModelVersion] = {}
        self.samples: dict[tuple[str, str], bytes] = {}

    def CreateModel(
        self, request: registry_service_pb2.CreateModelRequest, context: grpc.ServicerContext
    ) -> model_version_pb2.ModelVersion:
        self.requests.append(request)
        if self.reads_no_files and request.artifact_uri.startswith("file://"):
            refuse(context, code_pb2.NOT_FOUND, "ARTIFACT_NOT_FOUND", f"{request.artifact_uri} cannot be read")
        if any("species" in row.fields for row in request.reference_sample.instances):
            refuse(context, code_pb2.INVALID_ARGUMENT, "SCHEMA_VIOLATION", "species is no feature")
        made = model_version_pb2.ModelVersion(
            model_name=request.name,
            version=request.version,
            framework=request.framework or "onnx",
            artifact_uri=request.artifact_uri,
            metadata=request.metadata,
            stage="draft",
        )
        made.reference_rows = len(request.reference_sample.instances)
        made.feature_views.extend(request.feature_views)
        self.samples[request.name, request.version] = json_format.MessageToJson(request.reference_sample).encode()
        made.schema.inputs.add(name="X", data_type=11, shape=[64], minimum=0, maximum=16)
        made.schema.outputs.add(name="label", data_type=9)
        there = self.versions.setdefault((request.name, request.version), made)
        if there.artifact_uri != made.artifact_uri:
            refuse(context, code_pb2.ALREADY_EXISTS, "VERSION_EXISTS", f"{request.version} is there with other content")
        return there

    def GetReferenceSample(
        self, request: registry_service_pb2.GetReferenceSampleRequest, context: grpc.ServicerContext
    ) -> httpbody_pb2.HttpBody:
        return httpbody_pb2.HttpBody(data=self.samples[request.model_name, request.version])

    def GetModel(self, request: registry_service_pb2.GetModelRequest, context: grpc.ServicerContext) -> model_pb2.Model:
        found = [version for name, version in self.versions if name == request.model_name]
        if not found:
            refuse(context, code_pb2.NOT_FOUND, "MODEL_NOT_FOUND", f"there is no model {request.model_name!r}")
        return model_pb2.Model(name=request.model_name, framework="onnx", version_count=len(found))

    def ListModels(
        self, request: registry_service_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> registry_service_pb2.ListModelsResponse:
        names = sorted({name for name, _ in self.versions if name.startswith(request.name_prefix)})
        begin = int(request.page_token or 0)
        token = str(begin + 2) if len(names) > begin + 2 else ""
        models = [model_pb2.Model(name=name) for name in names[begin : begin + 2]]
        return registry_service_pb2.ListModelsResponse(models=models, next_page_token=token)

    def GetModelVersion(
        self, request: registry_service_pb2.GetModelVersionRequest, context: grpc.ServicerContext
    ) -> model_version_pb2.ModelVersion:
        return self.versions[request.model_name, request.version]

    def ListModelVersions(
        self, request: registry_service_pb2.ListModelVersionsRequest, context: grpc.ServicerContext
    ) -> registry_service_pb2.ListModelVersionsResponse:
        found = [kept for (name, _), kept in sorted(self.versions.items(), reverse=True) if name == request.model_name]
        return registry_service_pb2.ListModelVersionsResponse(versions=found)

    def SearchModels(
        self, request: registry_service_pb2.SearchModelsRequest, context: grpc.ServicerContext
    ) -> registry_service_pb2.SearchModelsResponse:
        self.searches.append(request)
        return registry_service_pb2.SearchModelsResponse(versions=self.versions.values())

    def SetStage(
        self, request: registry_service_pb2.SetStageRequest, context: grpc.ServicerContext
    ) -> model_version_pb2.ModelVersion:
        found = self.versions[request.model_name, request.version]
        found.stage = request.stage
        return found

    def SetAlias(self, request: registry_service_pb2.SetAliasRequest, context: grpc.ServicerContext) -> model_pb2.Alias:
        return model_pb2.Alias(model_name=request.model_name, alias=request.alias, version=request.version)


class Artifacts(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """Keeps what is sent where its digest is right."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.pieces = 0

    def UploadArtifact(
        self, requests: Iterator[artifact_service_pb2.UploadArtifactRequest], context: grpc.ServicerContext
    ) -> artifact_pb2.Artifact:
        first = next(requests, None)
        if first is None:
            return context.abort(grpc.StatusCode.CANCELLED, "whoever sends went away before the first word")
        content = first.body.data
        for request in requests:
            self.pieces += 1
            content += request.body.data
        digest = hashlib.sha256(content).hexdigest()
        if digest != first.digest or len(content) != first.size_bytes:
            refuse(context, code_pb2.DATA_LOSS, "ARTIFACT_CORRUPT", "it changed on its way")
        self.kept[first.filename] = content
        return artifact_pb2.Artifact(digest=digest, artifact_uri=f"artifact://sha256/{digest}")


class Deployer(deployer_service_pb2_grpc.DeployerServiceServicer):
    """Keeps deployments. Each watching plays the next script; reading sees what was told last."""

    def __init__(self) -> None:
        self.created: list[deployer_service_pb2.CreateDeploymentRequest] = []
        self.updated: list[deployer_service_pb2.UpdateDeploymentRequest] = []
        self.restarted: list[str] = []
        self.deployments: dict[str, Deployment] = {}
        self.scripts: list[list[Step]] = []
        self.watched = 0
        self.becomes = "active"

    def CreateDeployment(
        self, request: deployer_service_pb2.CreateDeploymentRequest, context: grpc.ServicerContext
    ) -> Deployment:
        self.created.append(request)
        made = deployment(request.version, self.becomes, name=request.deployment_name, model=request.model_name)
        self.deployments[request.deployment_name] = made
        return made

    def GetDeployment(
        self, request: deployer_service_pb2.GetDeploymentRequest, context: grpc.ServicerContext
    ) -> Deployment:
        found = self.deployments.get(request.deployment_name)
        if found is None:
            refuse(context, code_pb2.NOT_FOUND, "DEPLOYMENT_NOT_FOUND", f"there is no {request.deployment_name}")
            raise AssertionError
        return found

    def ListDeployments(
        self, request: deployer_service_pb2.ListDeploymentsRequest, context: grpc.ServicerContext
    ) -> deployer_service_pb2.ListDeploymentsResponse:
        found = [item for item in self.deployments.values() if request.model_name in {"", item.model_name}]
        return deployer_service_pb2.ListDeploymentsResponse(deployments=found)

    def DeleteDeployment(
        self, request: deployer_service_pb2.DeleteDeploymentRequest, context: grpc.ServicerContext
    ) -> Deployment:
        found = self.GetDeployment(
            deployer_service_pb2.GetDeploymentRequest(deployment_name=request.deployment_name), context
        )
        found.status = "terminating"
        return found

    def UpdateDeployment(
        self, request: deployer_service_pb2.UpdateDeploymentRequest, context: grpc.ServicerContext
    ) -> Deployment:
        self.updated.append(request)
        return self.deployments[request.deployment.deployment_name]

    def RestartDeployment(
        self, request: deployer_service_pb2.RestartDeploymentRequest, context: grpc.ServicerContext
    ) -> Deployment:
        self.restarted.append(request.deployment_name)
        found = self.deployments[request.deployment_name]
        found.status = "active"
        return found

    def WatchDeployments(
        self, request: deployer_service_pb2.WatchDeploymentsRequest, context: grpc.ServicerContext
    ) -> Iterator[deployer_service_pb2.WatchDeploymentsResponse]:
        self.watched += 1
        for step in self.scripts.pop(0) if self.scripts else ():
            if isinstance(step, grpc.StatusCode):
                context.abort(step, "broken off")
            elif step is None:
                _, gone = self.deployments.popitem()
                yield deployer_service_pb2.WatchDeploymentsResponse(deployment=gone, removed=True)
            else:
                self.deployments[step.deployment_name] = step
                yield deployer_service_pb2.WatchDeploymentsResponse(deployment=step)


class Router(Rollouts):
    """Keeps the shares that it was told; knows v1.0.0 and v1.1.0."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: list[router_service_pb2.UpdateTrafficRequest] = []
        self.rolled_back: list[router_service_pb2.RollBackRequest] = []
        self.undone: list[router_service_pb2.UndoTrafficRequest] = []
        self.updates: list[router_service_pb2.UpdateTrafficRequest] = []
        self.split: dict[str, int] = {"v1.0.0": 100}
        self.governing_rule = "split"
        self.late_times = 0
        self.asked = 0
        self.batchers: list[receiver_pb2.Batcher] | None = []
        """None: nobody says."""

    def _traffic(self, model: str) -> traffic_pb2.Traffic:
        return traffic_pb2.Traffic(
            model_name=model,
            traffic_split=self.split,
            effective_split=self.split,
            routing_strategy="random",
            ready_versions=["v1.0.0", "v1.1.0"],
            governing_rule=self.governing_rule,
        )

    def GetTraffic(
        self, request: router_service_pb2.GetTrafficRequest, context: grpc.ServicerContext
    ) -> traffic_pb2.Traffic:
        self.asked += 1
        traffic = self._traffic(request.model_name)
        late = self.asked <= self.late_times
        traffic.status_conditions.add(type="Propagated", status="False" if late else "True")
        return traffic

    def UpdateTraffic(
        self, request: router_service_pb2.UpdateTrafficRequest, context: grpc.ServicerContext
    ) -> traffic_pb2.Traffic:
        self.updates.append(request)
        if unknown := set(request.traffic_split) - {"v1.0.0", "v1.1.0"}:
            refuse(context, code_pb2.FAILED_PRECONDITION, "VERSION_NOT_DEPLOYED", f"{min(unknown)} is not ready")
        if request.canary_config.enabled:
            self.canary = canary_pb2.Canary(
                model_name=request.model_name,
                deployment_name=request.deployment_name,
                version="v1.1.0",
                baseline_version="v1.0.0",
                status="running",
                percent=request.canary_config.stages[0].percent if request.canary_config.stages else 1,
                config=request.canary_config,
                etag="1",
            )
        elif request.traffic_split:
            self.split = dict(request.traffic_split)
        return self._traffic(request.model_name)

    def PlanTraffic(
        self, request: router_service_pb2.UpdateTrafficRequest, context: grpc.ServicerContext
    ) -> router_service_pb2.TrafficPlan:
        self.plans.append(request)
        return router_service_pb2.TrafficPlan(moved_percent=10, changes=["v1.1.0 gets 10 % instead of 0 %"])

    def UndoTraffic(
        self, request: router_service_pb2.UndoTrafficRequest, context: grpc.ServicerContext
    ) -> traffic_pb2.Traffic:
        self.undone.append(request)
        return self._traffic(request.model_name)

    def RollBack(
        self, request: router_service_pb2.RollBackRequest, context: grpc.ServicerContext
    ) -> traffic_pb2.Traffic:
        self.rolled_back.append(request)
        self.split = {request.to_version or "v1.0.0": 100}
        return self._traffic(request.model_name)

    def ListBatchers(
        self, request: router_service_pb2.ListBatchersRequest, context: grpc.ServicerContext
    ) -> router_service_pb2.ListBatchersResponse:
        if self.batchers is None:
            refuse(context, code_pb2.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE", "the router does not answer")
        return router_service_pb2.ListBatchersResponse(batchers=self.batchers)

    def ListTrafficChanges(
        self, request: router_service_pb2.ListTrafficChangesRequest, context: grpc.ServicerContext
    ) -> router_service_pb2.ListTrafficChangesResponse:
        change = traffic_pb2.TrafficChange(action="update", before={"v1.0.0": 100}, after=self.split, reason="try it")
        return router_service_pb2.ListTrafficChangesResponse(changes=[change])


class Batcher(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers with what `says` makes of the version; refuses as not served so many times before."""

    def __init__(self) -> None:
        self.not_served_times = 0
        self.says: Callable[[str], int] = lambda version: 7
        self.explains: Mapping[str, float] = {}

    def Predict(
        self, request: prediction_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> prediction_pb2.PredictResponse:
        if self.not_served_times:
            self.not_served_times -= 1
            refuse(context, code_pb2.NOT_FOUND, "MODEL_NOT_SERVED", f"{request.model_name} is not served")
        output = instance_pb2.Feature(int64_value=self.says(request.version))
        prediction = prediction_pb2.Prediction(output=output)
        if request.explain:
            prediction.explanation.update(self.explains)
            prediction.explanation_baseline = 0.5
        return prediction_pb2.PredictResponse(
            predictions=[prediction] * len(request.instances),
            model_name=request.model_name,
            model_version=request.version,
            latency_ms=1.5,
        )


class Health(health_pb2_grpc.HealthServicer):
    """All parts answer but those in `away`."""

    def __init__(self) -> None:
        self.away: set[str] = set()

    def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        if request.service in {SERVICES[part] for part in self.away}:
            context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@dataclass
class Scripted:
    """What a test tells the mesh, and asks it."""

    registry: Registry = field(default_factory=Registry)
    artifacts: Artifacts = field(default_factory=Artifacts)
    deployer: Deployer = field(default_factory=Deployer)
    router: Router = field(default_factory=Router)
    monitor: Monitor = field(default_factory=Monitor)
    batcher: Batcher = field(default_factory=Batcher)
    health: Health = field(default_factory=Health)
    address: str = ""

    def run(self, *arguments: str, code: int = 0, env: Mapping[str, str] | None = None) -> Result:
        """Runs the command against this mesh, and checks its exit code."""
        told = {"INFERMESH_GATEWAY": self.address, "COLUMNS": "140", **(env or {})}
        result = CliRunner().invoke(build_app(), arguments, env=told)
        assert result.exit_code == code, f"{arguments}: {result.exit_code}\n{result.output}"
        return result

    def completed(self, line: str) -> str:
        """What bash is offered at the end of a line."""
        words = line.split(" ")
        told = {
            "_INFERMESH_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
            "INFERMESH_GATEWAY": self.address,
        }
        return CliRunner().invoke(build_app(), [], env=told, prog_name="infermesh").output


def deployment(version: str, status: str, *, name: str = "", model: str = "digits", **more: object) -> Deployment:
    """A deployment in a status, with the steps that belong to it."""
    made = Deployment(
        deployment_id=f"id-of-{version}",
        model_name=model,
        deployment_name=name or version.replace(".", "-"),
        version=version,
        status=status,
        generation=1,
        observed_generation=1,
        **more,  # type: ignore[arg-type]
    )
    made.conditions.add(type="Validated", status="True", message="the artifact is what the registry says")
    made.conditions.add(type="Loaded", status="True" if status == "active" else "Unknown", message="loading")
    return made
