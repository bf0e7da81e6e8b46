"""Which client a backend's server is spoken to by. Chosen when a server is first named, never while a batch waits."""

from services.batcher.adapters.oip_grpc import oip_grpc_client
from services.batcher.adapters.oip_rest import oip_rest_client
from services.batcher.adapters.outside import Outside
from services.batcher.adapters.tensorflow_grpc import tensorflow_grpc_client
from services.batcher.adapters.tensorflow_rest import tensorflow_rest_client
from services.batcher.adapters.torchserve import torchserve_client
from services.batcher.adapters.triton import TritonClient
from services.batcher.domain.serving import Backend, Protocol
from services.batcher.ports import BackendClient
from services.common.outside_credentials import Credentials
from services.common.outside_tls import OutsideTls
from services.common.server_address import ServerAddress


def open_client(
    backend: Backend, *, tls: OutsideTls | None = None, credentials: Credentials | None = None
) -> BackendClient:
    """A `BackendClientFactory`. `tls`: whose certificates of others' servers are believed; None: those that this system
    believes. `credentials`: where what these are shown is kept; None: nowhere."""
    at = ServerAddress.of(backend.address)
    outside = Outside(at, tls or OutsideTls(), backend.credentials, credentials or Credentials())
    match backend.protocol:
        case Protocol.MESH:
            return TritonClient(backend.address)
        case Protocol.OIP_REST:
            return oip_rest_client(outside)
        case Protocol.OIP_GRPC:
            return oip_grpc_client(outside)
        case Protocol.TENSORFLOW_REST:
            return tensorflow_rest_client(outside)
        case Protocol.TENSORFLOW_GRPC:
            return tensorflow_grpc_client(outside)
        case Protocol.TORCHSERVE:
            return torchserve_client(outside)
