"""Between protobuf and logging policies."""

from infermesh.monitor.v1 import inference_log_pb2

from services.common.errors import MeshError, Reason
from services.common.names import check_model_name, check_version
from services.monitor.domain.logging_policies import LoggingPolicy


def policy_to_proto(policy: LoggingPolicy) -> inference_log_pb2.LoggingPolicy:
    """The policy as it is."""
    return inference_log_pb2.LoggingPolicy(
        model_name=policy.model,
        version=policy.version,
        sample_rate=policy.sample_rate,
        log_input_hash=policy.log_input_hash,
        log_output=policy.log_output,
        redacted_fields=policy.redacted_fields,
        etag=str(policy.revision),
    )


def policy_from_proto(message: inference_log_pb2.LoggingPolicy) -> tuple[LoggingPolicy, int | None]:
    """The policy that was sent, and the revision that its etag expects; None: any. Raises INVALID_FIELD, and
    ETAG_MISMATCH for what is no etag."""
    policy = LoggingPolicy(
        check_model_name(message.model_name, "logging_policy.model_name"),
        check_version(message.version, "logging_policy.version") if message.version else "",
        message.sample_rate,
        message.log_input_hash,
        message.log_output,
        tuple(message.redacted_fields),
    )
    etag = message.etag
    if etag and not (etag.isascii() and etag.isdigit() and len(etag) < len(str(2**63))):
        raise MeshError(Reason.ETAG_MISMATCH, f"etag {etag[:64]!r} is none of a policy's; read it and use that")
    return policy, int(etag) if etag else None
