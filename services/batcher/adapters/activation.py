"""The deployer, as the one who loads versions that are cold."""

import grpc
from infermesh.deployer.v1 import activation_service_pb2 as pb
from infermesh.deployer.v1 import activation_service_pb2_grpc

from services.batcher.domain.activation import NoAnswerError
from services.common.errors import MeshError, Reason
from services.common.grpc.status import STATUS_DETAILS_KEY

DEADLINE_S = 120.0
"""Of one call: a large version, or one whose environment is built, takes as long. After it the deployer is asked again;
several calls cause one load."""
_ABOUT_US = frozenset({
    Reason.UNAUTHENTICATED,
    Reason.PERMISSION_DENIED,
    Reason.NOT_IMPLEMENTED,
    Reason.INVALID_FIELD,
})  # fmt: skip
"""The deployer refuses this batcher, not the caller, who would look for the fault in the wrong place."""
_NOT_YET = (Reason.DEADLINE_TOO_SHORT, Reason.SHUTTING_DOWN, Reason.CALLER_CANCELLED)
"""A call took longer than one may, or ended with the deployer's process: another one goes on where it was."""


class DeployerActivator:
    """An `Activator` over gRPC."""

    def __init__(self, channel: grpc.aio.Channel, *, deadline_s: float = DEADLINE_S) -> None:
        self._stub = activation_service_pb2_grpc.ActivationServiceStub(channel)
        self._deadline_s = deadline_s

    async def activate(self, model_name: str, version: str) -> None:
        """Has a version loaded, and returns once it is ready. Raises MeshError with the deployer's reason, and
        NoAnswerError where it gives none: it is away, restarts, or takes longer than a call may."""
        request = pb.ActivateVersionRequest(model_name=model_name, version=version)
        try:
            await self._stub.ActivateVersion(request, timeout=self._deadline_s)
        except MeshError as error:
            if _unanswered(error):
                raise NoAnswerError(error.message) from error
            if error.reason in _ABOUT_US:
                raise MeshError(
                    Reason.DEPENDENCY_UNAVAILABLE,
                    f"the deployer does not load it for this batcher ({error.reason}: {error.message}); see that both "
                    "are of one release and have certificates of one authority",
                    metadata=error.metadata,
                ) from error
            raise


def _unanswered(error: MeshError) -> bool:
    """Whether that says nothing about the version. Whatever a deployer says has details; without them it is the
    transport's word, or that of a server without the service."""
    if error.reason in _NOT_YET:
        return True
    call = error.__cause__
    if not isinstance(call, grpc.aio.AioRpcError) or error.reason is Reason.NOT_IMPLEMENTED:
        return False
    return all(key != STATUS_DETAILS_KEY for key, _ in call.trailing_metadata() or ())
