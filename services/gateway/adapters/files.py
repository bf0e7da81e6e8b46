"""Configurations on disk: one file a gateway, replaced as a whole."""

import hashlib
import threading
from pathlib import Path
from urllib.parse import quote

import orjson

from services.common.disk import replace_file
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.gateway.domain.messages import Configuration, Kept

log = get_logger(__name__)

_MAGIC = b"infermesh gateway configuration 1\n"
_DIGEST_BYTES = 32
_NAME_MAX = 80


class FileStore:
    """Files in `folder`.

    After the name of the format and a digest of all that follows comes one line of JSON, which says for which gateway
    and layout this is, the versions, and the name and length of each resource; then the resources as they came.
    """

    def __init__(self, folder: Path, *, layout: str) -> None:
        """`layout` names the ports and parts that configurations are good for. What was kept for others is left
        aside: its listener would open another port."""
        self._folder = folder
        self._layout = layout
        # A write that nobody waits for any more may still be under way when the last one begins.
        self._writing = threading.Lock()

    def path(self, gateway: str) -> Path:
        """Where a gateway's configuration is."""
        digest = hashlib.sha256(gateway.encode()).hexdigest()[:8]
        return self._folder / f"{quote(gateway, safe='')[:_NAME_MAX]}-{digest}.bin"

    def load(self, gateway: str) -> Configuration | None:
        """What was saved last for this gateway and layout. Raises ARTIFACT_CORRUPT, OSError."""
        path = self.path(gateway)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        body = memoryview(content)[start:]
        if not content.startswith(_MAGIC) or hashlib.sha256(body).digest() != content[len(_MAGIC) : start]:
            raise MeshError(
                Reason.ARTIFACT_CORRUPT, f"{path} is damaged; it is left aside until the gateway has taken another one"
            )
        head_length = content.index(b"\n", start) + 1 - start
        head = orjson.loads(body[:head_length])
        if (head["gateway"], head["layout"]) != (gateway, self._layout):
            log.info("the kept configuration is for another layout", path=str(path), layout=head["layout"])
            return None
        types, place = {}, head_length
        for type_url, item in head["types"].items():
            resources = {}
            for name, size in item["sizes"].items():
                resources[name] = bytes(body[place : place + size])
                place += size
            types[type_url] = Kept(item["version"], resources)
        return Configuration(types)

    def save(self, gateway: str, configuration: Configuration) -> int:
        """Replaces a gateway's file, atomically and durably. Returns the bytes. Raises OSError."""
        listed = {
            type_url: {"version": kept.version, "sizes": {name: len(body) for name, body in kept.resources.items()}}
            for type_url, kept in configuration.types.items()
        }
        head = orjson.dumps({"gateway": gateway, "layout": self._layout, "types": listed}) + b"\n"
        bodies = [body for kept in configuration.types.values() for body in kept.resources.values()]
        digest, path = hashlib.sha256(head), self.path(gateway)
        for body in bodies:
            digest.update(body)
        with self._writing:
            self._folder.mkdir(parents=True, exist_ok=True)
            return replace_file(path, (_MAGIC, digest.digest(), head, *bodies))
