"""Whose certificates of gateways are believed, as a file has it."""

import asyncio
from pathlib import Path

from services.common.errors import MeshError, Reason


class AuthoritiesFile:
    """A file of certificates in PEM, which somebody else may renew. None: nobody has to be told."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    async def read(self) -> str:
        """What stands in it now; empty without a file. Raises DEPENDENCY_UNAVAILABLE where it cannot be read."""
        if self._path is None:
            return ""
        try:
            return await asyncio.to_thread(self._path.read_text)
        except (OSError, UnicodeDecodeError) as error:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the certificates in {self._path} (INFERMESH_OPERATOR_GATEWAY_TLS) cannot be read ({error}); "
                "it is tried again",
                retry_after_s=1.0,
            ) from error
