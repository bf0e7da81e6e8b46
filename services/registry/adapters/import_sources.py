"""Other registries by their URIs, within what the settings allow.

Whoever imports names the place, and a registry that asked any host for them would ask those that only it can reach. So
servers must be named in the settings first.
"""

from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from services.common.errors import MeshError, Reason, invalid
from services.registry.adapters.artifact_sources import Sources
from services.registry.adapters.import_tree import open_tree
from services.registry.adapters.mlflow_server import MlflowServer, client_of
from services.registry.adapters.mlflow_store import MlflowFolder
from services.registry.adapters.triton_repository import TritonRepository
from services.registry.ports import ArtifactStore
from services.registry.ports_reading import ModelSource

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ImportSources:
    """A `ModelSources`."""

    def __init__(
        self,
        store: ArtifactStore,
        *,
        hosts: Sequence[str],
        places: Sources,
        bytes_max: int,
    ) -> None:
        self._store = store
        self._hosts = tuple(host.lower() for host in hosts)
        self._places = places
        self._bytes_max = bytes_max

    def open(self, source: str, uri: str) -> ModelSource:
        """The registry at a place."""
        if uri.startswith(("http://", "https://")):
            if source != "mlflow":
                raise invalid("uri", uri, "file://, s3:// or gs:// of a model repository")
            return self._server(uri)
        tree = open_tree(uri, self._places)
        return TritonRepository(tree) if source == "triton" else MlflowFolder(tree)

    def _server(self, uri: str) -> ModelSource:
        try:
            parts = urlsplit(uri)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            raise invalid("uri", uri, "http(s)://host or http(s)://host:port") from None
        if not host or parts.username is not None or parts.query or parts.fragment:
            raise invalid("uri", uri, "http(s)://host or http(s)://host:port, without user, query and fragment")
        if host not in self._hosts and f"{host}:{port or _port(parts)}" not in self._hosts:
            listed = ", ".join(self._hosts) or "none"
            raise MeshError(
                Reason.PERMISSION_DENIED,
                f"uri is {uri!r}, and models may be imported only from the hosts that an operator allows ({listed}); "
                f"set INFERMESH_REGISTRY_IMPORT_HOSTS={host}, or import from file://, s3:// or gs://",
                metadata={"host": host},
            )
        client = client_of(uri.rstrip("/"))
        return MlflowServer(client, self._store, is_local=host in _LOOPBACK, bytes_max=self._bytes_max)


def _port(parts: SplitResult) -> int:
    return 443 if parts.scheme == "https" else 80
