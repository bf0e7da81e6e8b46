"""FAILED_PRECONDITION over REST, which is 412 by our contract.

The gateway's transcoder makes 400 of it, and a script that puts it right would cost each prediction more than the rest
of the gateway's filters. So the one answer that the transcoder would get wrong is written here, as it would have been
there: what is not gRPC it lets pass.
"""

from google.protobuf.json_format import MessageToJson
from google.rpc.code_pb2 import Code

from services.batcher.bridge.messages import Answer, answer
from services.batcher.faces.call import Call
from services.common.errors import MeshError
from services.common.grpc.status import status_from_error

HEADER_TRANSCODED = b"x-envoy-original-path"
"""Set by the transcoder alone: the gateway takes it away from callers."""
_STATUS = 412
_JSON_TYPE = (b"content-type", b"application/json")


def transcoder_errs(call: Call, error: MeshError) -> bool:
    """Whether the caller speaks REST and the transcoder would answer with another status."""
    return HEADER_TRANSCODED in call.headers and status_from_error(error).code == Code.FAILED_PRECONDITION


def precondition(error: MeshError) -> Answer:
    """The error, as the transcoder writes errors."""
    body = MessageToJson(status_from_error(error), preserving_proto_field_name=True, indent=None)
    return answer(_STATUS, body.encode(), [_JSON_TYPE])
