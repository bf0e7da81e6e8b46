"""The prediction log: searched, exported, and what of requests goes into it."""

import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime

from google.protobuf.field_mask_pb2 import FieldMask
from infermesh.client.metrics import timestamp
from infermesh.client.transport import Transport, all_pages
from infermesh.monitor.v1 import inference_log_pb2, monitor_service_pb2, monitor_service_pb2_grpc

_PAGE_SIZE = 200


class Logs:
    """Requests one by one, with hash and output where a model's logging policy asks for them."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def list(
        self,
        model: str,
        *,
        version: str = "",
        request_id: str = "",
        user: str = "",
        errors_only: bool = False,
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[inference_log_pb2.InferenceLog]:
        """Entries of a model in a window (default: the last hour), newest first. Times must be aware."""

        def fetch(token: str) -> monitor_service_pb2.ListInferenceLogsResponse:
            request = monitor_service_pb2.ListInferenceLogsRequest(
                model_name=model,
                version=version,
                request_id=request_id,
                user_id=user,
                errors_only=errors_only,
                start_time=timestamp(start),
                end_time=timestamp(end),
                page_size=min(limit or _PAGE_SIZE, _PAGE_SIZE),
                page_token=token,
            )
            return self._transport.call(self._stub.ListInferenceLogs, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.inference_logs, limit=limit)

    def export(
        self,
        model: str,
        output_uri: str,
        *,
        start: datetime,
        end: datetime,
        format: str = "parquet",  # noqa: A002 - as the API calls it
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> inference_log_pb2.LogExport:
        """Has a part of the log written to a folder, as "parquet" or "bulk_json"; answers at once, see `exported`."""
        request = monitor_service_pb2.ExportInferenceLogsRequest(
            model_name=model,
            start_time=timestamp(start),
            end_time=timestamp(end),
            format=format,
            output_uri=output_uri,
            request_id=request_id or secrets.token_hex(16),
        )
        return self._transport.call(self._stub.ExportInferenceLogs, request, timeout_s=timeout_s)

    def exported(self, export_id: str, *, timeout_s: float | None = None) -> inference_log_pb2.LogExport:
        """How far an export is."""
        request = monitor_service_pb2.GetLogExportRequest(export_id=export_id)
        return self._transport.call(self._stub.GetLogExport, request, timeout_s=timeout_s)

    def policy(
        self, model: str, *, version: str = "", timeout_s: float | None = None
    ) -> inference_log_pb2.LoggingPolicy:
        """What is logged of a version, or of versions without a policy of their own."""
        request = monitor_service_pb2.GetLoggingPolicyRequest(model_name=model, version=version)
        return self._transport.call(self._stub.GetLoggingPolicy, request, timeout_s=timeout_s)

    def set_policy(
        self,
        model: str,
        *,
        version: str = "",
        sample_rate: float | None = None,
        input_hash: bool | None = None,
        output: bool | None = None,
        redacted_fields: Sequence[str] | None = None,
        etag: str = "",
        timeout_s: float | None = None,
    ) -> inference_log_pb2.LoggingPolicy:
        """Changes what is said and leaves the rest. Raises ETAG_MISMATCH where someone changed it since `etag`."""
        changes = {
            "sample_rate": sample_rate,
            "log_input_hash": input_hash,
            "log_output": output,
            "redacted_fields": redacted_fields,
        }
        said = {name: value for name, value in changes.items() if value is not None}
        if not said:
            raise ValueError("nothing is to change; say at least one of " + ", ".join(changes))
        policy = inference_log_pb2.LoggingPolicy(model_name=model, version=version, etag=etag, **said)  # type: ignore[arg-type]
        request = monitor_service_pb2.UpdateLoggingPolicyRequest(
            logging_policy=policy, update_mask=FieldMask(paths=list(said))
        )
        return self._transport.call(self._stub.UpdateLoggingPolicy, request, timeout_s=timeout_s)

    def health(self, *, minutes: int = 0, timeout_s: float | None = None) -> monitor_service_pb2.LogHealth:
        """Whether the log is stored, and what was dropped of it in the last minutes (0: 60)."""
        request = monitor_service_pb2.GetLogHealthRequest(window_minutes=minutes)
        return self._transport.call(self._stub.GetLogHealth, request, timeout_s=timeout_s)
