"""The wire forms of artifacts and of what is seen in them."""

from infermesh.registry.v1 import artifact_pb2

from services.common.schema_proto import mapping_to_proto, schema_to_proto
from services.registry.convert.values import timestamp
from services.registry.domain.uploads import Upload
from services.registry.engines.inspecting import ArtifactView, Report


def artifact_to_proto(view: ArtifactView) -> artifact_pb2.Artifact:
    """The wire form of an artifact."""
    stored = view.stored
    return artifact_pb2.Artifact(
        digest=stored.digest,
        artifact_uri=f"artifact://sha256/{stored.digest}",
        kind=stored.kind,
        filename=view.filename or stored.filename,
        size_bytes=stored.size_bytes,
        stored_size_bytes=stored.stored_bytes,
        version_count=view.version_count,
        created_at=timestamp(stored.created_at),
    )


def upload_to_proto(upload: Upload) -> artifact_pb2.Upload:
    """The wire form of an upload."""
    return artifact_pb2.Upload(
        upload_id=upload.upload_id,
        offset_bytes=upload.offset_bytes,
        size_bytes=upload.size_bytes,
        digest=upload.digest,
        filename=upload.filename,
        expires_at=timestamp(upload.expires_at),
    )


def report_to_proto(report: Report) -> artifact_pb2.ArtifactReport:
    """The wire form of what is seen in an artifact."""
    return artifact_pb2.ArtifactReport(
        artifact=artifact_to_proto(report.artifact),
        framework=report.framework,
        framework_version=report.framework_version,
        schema=schema_to_proto(report.schema) if report.schema is not None else None,
        mapping=mapping_to_proto(report.mapping) if report.mapping is not None else None,
        problems=report.problems,
    )
