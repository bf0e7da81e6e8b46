"""The one error that the client raises, rebuilt from the `google.rpc` details that the mesh sends (AIP-193).

An error says three things: what is wrong (`message`, `violations`), in one word for programs (`reason`, a name of
`infermesh.common.v1.ErrorReason`), and what to do next (`advice`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DOMAIN = "infermesh"
GATEWAY_UNREACHABLE = "GATEWAY_UNREACHABLE"
"""The client's own reason: nothing answers at the gateway's address."""
_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field of a request: its path, and what was found and expected."""

    field: str
    description: str


class InfermeshError(Exception):
    """A call that failed.

    `code` is the gRPC status; `reason` is a name of `ErrorReason`, `GATEWAY_UNREACHABLE`, or, for a failure that did
    not come from the mesh itself, the name of the code. `retry_after_s` is set where the mesh says when to try again.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode,
        reason: str,
        violations: Sequence[Violation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.violations = tuple(violations)
        self.metadata: Mapping[str, str] = MappingProxyType(dict(metadata or {}))
        self.retry_after_s = retry_after_s
        self.advice = advice if advice is not None else _advice(code, reason, retry_after_s, self.metadata)

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed later without any change."""
        return self.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)

    @property
    def is_interruption(self) -> bool:
        """Whether a stream that broke so may be opened again: whoever was restarted is back in a moment."""
        return self.is_transient or self.code in (
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNKNOWN,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )

    def to_dict(self) -> dict[str, object]:
        """The error as plain JSON values, as `infermesh --json` prints it."""
        return {
            "code": self.code.name,
            "reason": self.reason,
            "message": self.message,
            "violations": [{"field": item.field, "description": item.description} for item in self.violations],
            "metadata": dict(self.metadata),
            "retry_after_s": self.retry_after_s,
            "advice": self.advice,
        }

    def __str__(self) -> str:
        """The message, and each violation that the message does not already repeat."""
        extra = [
            f"{item.field}: {item.description}" for item in self.violations if item.description not in self.message
        ]
        return "; ".join([self.message, *extra])


def error_from_rpc(error: grpc.RpcError, *, address: str, timeout_s: float | None) -> InfermeshError:
    """The error behind a failed call to the gateway at `address`, which had `timeout_s` seconds."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return InfermeshError(str(error), code=grpc.StatusCode.UNKNOWN, reason=grpc.StatusCode.UNKNOWN.name)
    code = error.code()
    message = error.details() or f"the call failed with {code.name}"
    rich = _rich_status(error)
    if rich is not None:
        return error_from_status(rich)
    if code is grpc.StatusCode.UNAVAILABLE and _is_connect_failure(message):
        return unreachable(address)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and timeout_s is not None:
        message = f"the gateway at {address} gave no answer within {timeout_s:g} s"
    return InfermeshError(message, code=code, reason=code.name)


def unreachable(address: str) -> InfermeshError:
    """Nothing answers at the gateway's address."""
    return InfermeshError(
        f"no gateway answers at {address}",
        code=grpc.StatusCode.UNAVAILABLE,
        reason=GATEWAY_UNREACHABLE,
        advice="Start the mesh with `make run` (or `infermesh up`), or name another gateway with --gateway or the "
        "environment variable INFERMESH_GATEWAY.",
    )


def error_from_status(status: status_pb2.Status) -> InfermeshError:
    """The error that a `google.rpc.Status` states. Details of unknown types are passed over."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    reason, metadata = code.name, dict[str, str]()
    violations: list[Violation] = []
    retry_after_s: float | None = None
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        try:
            if detail.Unpack(info):
                if info.domain == DOMAIN:
                    reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad_request):
                violations = [Violation(item.field, item.description) for item in bad_request.field_violations]
            elif detail.Unpack(retry):
                retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        except DecodeError:
            continue
    return InfermeshError(
        status.message, code=code, reason=reason, violations=violations, metadata=metadata, retry_after_s=retry_after_s
    )


def _rich_status(error: grpc.Call | grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None
    return None


def _is_connect_failure(message: str) -> bool:
    """Whether the connection to the gateway itself failed, and not one behind it (Envoy words that one differently)."""
    lower = message.lower()
    return "upstream" not in lower and ("failed to connect" in lower or "connection refused" in lower)


_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LIST_MODELS = "`infermesh models list` lists what is registered."
_ADVICE_BY_REASON = {
    "MODEL_NOT_FOUND": _LIST_MODELS,
    "VERSION_NOT_FOUND": "`infermesh models versions MODEL` lists what is registered of a model.",
    "VERSION_EXISTS": "Versions never change: register the new content under a higher version.",
    "MODEL_NOT_SERVED": "`infermesh deploy MODEL VERSION` makes a registered version answer.",
    "VERSION_NOT_SERVED": "`infermesh deployments MODEL` lists what is ready; `infermesh deploy` adds to it.",
    "VERSION_NOT_DEPLOYED": "`infermesh deploy MODEL VERSION` first, then move traffic to it.",
    "SCHEMA_VIOLATION": "`infermesh models show MODEL VERSION` lists the features with their types and shapes.",
    "DEPLOYMENT_NOT_FOUND": "`infermesh deployments MODEL` lists the deployments.",
    "JOB_NOT_FOUND": "`infermesh batch list` lists the jobs.",
    "TRAFFIC_RULE_NOT_FOUND": "`infermesh traffic show MODEL` shows what decides its traffic.",
    "NOTHING_TO_ROLL_BACK": "Name the version that shall have the traffic: `infermesh rollback MODEL VERSION`.",
    "ROLLOUT_IN_PROGRESS": "`infermesh traffic show MODEL` names what runs; end it first, or take all of it back with "
    "`infermesh rollback MODEL`.",
    "ROLLOUT_STATE_INVALID": "`infermesh canary status MODEL` or `infermesh ab-test list MODEL` shows how it stands.",
    "AB_TEST_NOT_FOUND": "`infermesh ab-test list MODEL` lists the tests.",
    "AB_TEST_EXISTS": "Give the test another name; `infermesh ab-test list MODEL` lists those there are.",
    "ALERT_NOT_FOUND": "`infermesh alerts list` lists the alerts.",
    "ETAG_MISMATCH": "Somebody changed it meanwhile: read it again and repeat the change.",
    "BACKEND_UNAVAILABLE": "The model server is restarting or loading; `infermesh status` says which part.",
    "ARTIFACT_NOT_FOUND": "The path must be readable by the registry, not only by you.",
}
_ADVICE_BY_CODE = {
    grpc.StatusCode.UNAVAILABLE: "Try again in a moment; `infermesh status` says which part is away.",
    grpc.StatusCode.DEADLINE_EXCEEDED: "Allow more time with --timeout, or look at `infermesh status`.",
    grpc.StatusCode.INTERNAL: "This is a defect or a broken part: the services' logs hold the rest.",
    grpc.StatusCode.UNAUTHENTICATED: "Put a valid key into INFERMESH_API_KEY; `infermesh whoami` shows what it may do.",
    grpc.StatusCode.PERMISSION_DENIED: "Ask an administrator of your team for the role that this needs.",
}


def _advice(code: grpc.StatusCode, reason: str, retry_after_s: float | None, metadata: Mapping[str, str]) -> str:
    """What to do next; where the mesh said which model and version it is about, the commands can be pasted."""
    if retry_after_s is not None:
        return f"Try again in {retry_after_s:g} s."
    advice = _ADVICE_BY_REASON.get(reason) or _ADVICE_BY_CODE.get(code, "")
    for word, key in (("MODEL", "model_name"), ("VERSION", "version")):
        if known := metadata.get(key):
            advice = re.sub(rf"\b{word}\b", lambda _: known, advice)
    return advice
