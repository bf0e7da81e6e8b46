"""Keeps the public half of the signing key published for as long as the registry signs with it."""

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.registry.ports_teams import Signer, SigningKeys

log = get_logger(__name__)

_PERIOD_S = 3600.0


class Signing:
    """Says once at the start, and then every hour, that the key is in use."""

    def __init__(self, *, signer: Signer, keys: SigningKeys, clock: Clock) -> None:
        self._signer = signer
        self._keys = keys
        self._clock = clock

    async def publish(self) -> None:
        """Says it once. Raises SystemExit with one sentence where operators trust the key no more."""
        try:
            await self._keys.publish(self._signer.public_key, now=self._clock.now())
        except MeshError as error:
            raise SystemExit(error.message) from None

    async def run(self) -> None:
        """Says it every hour."""
        while True:
            await self._clock.sleep(_PERIOD_S)
            try:
                await self._keys.publish(self._signer.public_key, now=self._clock.now())
            except MeshError as error:
                log.warning("the signing key was not published", problem=error.message)
