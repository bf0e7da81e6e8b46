"""Between protobuf and exports of the log."""

from infermesh.monitor.v1 import inference_log_pb2

from services.monitor.domain.log_exports import LogExport


def export_to_proto(export: LogExport) -> inference_log_pb2.LogExport:
    """How far it is."""
    message = inference_log_pb2.LogExport(
        export_id=export.export_id,
        model_name=export.model,
        format=export.format.value,
        output_uri=export.output_uri,
        status=export.status.value,
        status_message=export.status_message,
        row_count=export.row_count,
    )
    message.start_time.FromDatetime(export.start)
    message.end_time.FromDatetime(export.end)
    return message
