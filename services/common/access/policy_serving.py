"""What the methods of predictions, deployments, traffic and batch jobs ask of their callers."""

from services.common.access.policy_words import (
    MODEL,
    calls,
    changes,
    internal,
    looks,
    operates,
    reads,
    rules,
    writes,
)
from services.common.access.roles import Role, Scope
from services.common.access.rule import Access, Rule

_DEPLOY = Scope.DEPLOYMENTS_WRITE
_TRAFFIC = Scope.TRAFFIC_WRITE
_ASKS = (Scope.PREDICT, Scope.MODELS_READ)
"""Who calls a model over the Open Inference Protocol looks first at what it takes."""

_batch_of = Rule(role=Role.DEPLOYER, scopes=frozenset({Scope.BATCH}), access=Access.CALL, model=MODEL)
"""A job calls the model and changes nothing of it, so a shared one will do."""

SERVING_RULES = {
    **rules(
        "infermesh.prediction.v1.PredictionService",
        {"Predict": calls(), "StreamPredict": calls(), "PredictJson": calls()},
    ),
    **rules(
        "inference.GRPCInferenceService",
        {
            "ServerLive": Rule(role=Role.ANONYMOUS),
            "ServerReady": Rule(role=Role.ANONYMOUS),
            "ServerMetadata": looks(*_ASKS),
            "ModelReady": calls("name", *_ASKS),
            "ModelMetadata": calls("name", *_ASKS),
            "ModelConfig": calls("name", *_ASKS),
            "ModelInfer": calls(),
            "ModelStreamInfer": calls(),
            "ModelStatistics": reads("name", optional=True),
            "RepositoryIndex": looks(*_ASKS),
            "RepositoryModelLoad": writes(_DEPLOY),
            "RepositoryModelUnload": writes(_DEPLOY),
        },
    ),
    **rules(
        "infermesh.deployer.v1.DeployerService",
        {
            "CreateDeployment": writes(_DEPLOY),
            "GetDeployment": reads(),
            "ListDeployments": reads(optional=True),
            "UpdateDeployment": writes(_DEPLOY, "deployment.model_name"),
            "ScaleDeployment": writes(_DEPLOY),
            "DeleteDeployment": writes(_DEPLOY),
            "WaitDeployment": reads(),
            "WatchDeployments": reads(optional=True),
            "RestartDeployment": writes(_DEPLOY),
            "ValidateDeployment": writes(_DEPLOY, "deployment.model_name"),
            "ListDeploymentEvents": reads(),
            "ListModelServers": operates(access=Access.READ),
        },
    ),
    **rules("infermesh.deployer.v1.BackendService", {"WatchBackends": internal()}),
    **rules(
        "infermesh.deployer.v1.ActivationService",
        {"ActivateVersion": internal(), "ReportDemand": internal()},
    ),
    **rules(
        "infermesh.router.v1.RouterService",
        {
            "UpdateTraffic": writes(_TRAFFIC),
            "PlanTraffic": writes(_TRAFFIC),
            "GetTraffic": reads(),
            "ListTraffic": looks(),
            "WatchTraffic": reads(),
            "ListTrafficChanges": reads(),
            "UndoTraffic": writes(_TRAFFIC),
            "RollBack": writes(_TRAFFIC),
            "ResolveRoute": reads(),
            "ListTrafficRules": reads(),
            "GetTrafficRule": reads(),
            "GetCanary": reads(),
            "ListCanaries": reads(),
            "PauseCanary": writes(_TRAFFIC),
            "ResumeCanary": writes(_TRAFFIC),
            "AbortCanary": writes(_TRAFFIC),
            "PromoteCanary": writes(_TRAFFIC),
            "CreateAbTest": writes(_TRAFFIC),
            "GetAbTest": reads(),
            "ListAbTests": reads(),
            "StopAbTest": writes(_TRAFFIC),
            "ConcludeAbTest": writes(_TRAFFIC),
            "ListGateways": operates(access=Access.READ),
            "ListBatchers": operates(access=Access.READ),
            "GetApiDescription": Rule(role=Role.ANONYMOUS),
        },
    ),
    **rules("infermesh.router.v1.ServingTableService", {"WatchServingTable": internal()}),
    **rules(
        "infermesh.batch.v1.WorkerService",
        {
            "LeaseChunks": internal(),
            "RenewChunks": internal(),
            "CompleteChunk": internal(),
            "FailChunk": internal(),
            "GiveBackChunks": internal(),
        },
    ),
    **rules(
        "infermesh.batch.v1.BatchService",
        {
            "CreateBatchJob": _batch_of,
            "ValidateBatchJob": _batch_of,
            "SampleBatchJob": _batch_of,
            "GetBatchJob": looks(),
            "ListBatchJobs": reads(optional=True),
            "WatchBatchJob": looks(),
            "UpdateBatchJob": changes(Scope.BATCH),
            "CancelBatchJob": changes(Scope.BATCH),
            "PauseBatchJob": changes(Scope.BATCH),
            "ResumeBatchJob": changes(Scope.BATCH),
            "RetryBatchJob": changes(Scope.BATCH),
            "DeleteBatchJob": changes(Scope.BATCH),
            "ListFailedRows": looks(),
            "ListBatchChunks": looks(),
            "CreateBatchSchedule": Rule(
                role=Role.DEPLOYER, scopes=frozenset({Scope.BATCH}), access=Access.CALL, model="schedule.job.model_name"
            ),
            "GetBatchSchedule": looks(),
            "ListBatchSchedules": looks(),
            "UpdateBatchSchedule": changes(Scope.BATCH),
            "DeleteBatchSchedule": changes(Scope.BATCH),
        },
    ),
}
