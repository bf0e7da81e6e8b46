"""A gateway that asks callers for a credential, with its keeper, as `make run` has it."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.router.adapters.envoy.control_plane import EnvoyControlPlane
from services.router.domain.access import Callers
from tests.support.gateway_keys import Signer
from tests.support.kept_gateway import KeptGateway
from tests.support.waiting import until


class GuardedGateway(KeptGateway):
    """Takes what `signer` signs."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(folder, loop)
        self.signer = Signer("key-1")
        self.callers: Callers | None = Callers("1", self.signer.key_set)
        self.options: dict[str, Any] = {}

    def new_plane(self, **changes: Any) -> EnvoyControlPlane:
        """One that asks for credentials."""
        return super().new_plane(**{"authentication": True, **self.options, **changes})

    async def prepare(self) -> None:
        """Says who may call, where that is known."""
        if self.callers is not None:
            await self.plane.admit(self.callers)

    def revoke(self, *key_ids: str) -> None:
        """Makes these the revoked keys, and waits until Envoy knows."""
        self.admit(revoked=key_ids)

    def admit(self, *, key_set: str = "", revoked: Sequence[str] | None = None) -> None:
        """Changes who may call, and waits until Envoy knows."""
        before = self.callers or Callers()
        self.callers = replace(
            before,
            key_set=key_set or before.key_set,
            revoked=before.revoked if revoked is None else tuple(revoked),
        )
        self.do(self.plane.admit(self.callers))
        until(lambda: not self.do(self.plane.admitted()), what="every gateway has taken it")
