"""How much memory servers and versions take: measured around each load and every now and then, guessed until then."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace
from math import inf

from services.common.clock import Clock
from services.deployer.domain.deployment import Deployment
from services.deployer.domain.memory import ServerMemory, guess_bytes, taken
from services.deployer.ports import MemoryMeter

PERIOD_S = 20.0
"""Between looks at everything: a version that serves grows."""


class Memories:
    """What was seen last. Servers that cannot be measured have none."""

    def __init__(self, meters: Mapping[str, MemoryMeter], *, clock: Clock) -> None:
        self._meters = meters
        self._clock = clock
        self._seen: dict[str, ServerMemory] = {}
        self._bare: dict[str, float] = {}
        """The least that each server's own process was seen to take since it was started: without models."""

    async def run(self) -> None:
        """Looks at everything, again and again; a task of the lifecycle."""
        while True:
            await self.look()
            await self._clock.sleep(PERIOD_S)

    async def look(self) -> None:
        """Looks at all servers and models once."""
        names = list(self._meters)
        for name, found in zip(names, await asyncio.gather(*(self._meters[one].read() for one in names)), strict=True):
            if found is None:
                self._seen.pop(name, None)
                self._bare.pop(name, None)
            else:
                self._seen[name] = found
                self._bare[name] = min(found.own_bytes, self._bare.get(name, inf))

    def keep(self, server: str, models: Collection[str]) -> None:
        """Forgets what else was in a server."""
        seen = self._seen.get(server)
        if seen is not None and not seen.models.keys() <= set(models):
            kept = {name: size for name, size in seen.models.items() if name in models}
            self._seen[server] = replace(seen, models=kept)

    def of_server(self, name: str) -> ServerMemory | None:
        """What a server takes; None where it is not known."""
        return self._seen.get(name)

    def bare_bytes(self, name: str) -> float:
        """What a server takes without models; 0 where it is not known."""
        return self._bare.get(name, 0.0)

    async def before(self, server: str, model: str) -> ServerMemory | None:
        """How things stand before a load."""
        meter = self._meters.get(server)
        return await meter.read([model]) if meter is not None else None

    async def after(self, server: str, model: str, before: ServerMemory | None) -> float | None:
        """What a model takes on a server that has just loaded it; None where that cannot be said, for instance because
        the one that it replaces is still on its way out."""
        meter = self._meters.get(server)
        after = await meter.read([model]) if meter is not None else None
        if before is None or before.models.get(model):
            return None
        found = taken(model, before, after)
        if found is not None and server in self._seen:
            seen = self._seen[server]
            self._seen[server] = replace(seen, models={**seen.models, model: found})
        return found

    def replica_bytes(self, deployment: Deployment, copies: int) -> float:
        """What one replica takes where a server that holds it has so many: as seen last, as it was measured before, or
        as guessed."""
        name = deployment.server_model_name
        found = [seen.models[name] for seen in self._seen.values() if seen.models.get(name)]
        if found:
            return max(found) / copies
        return deployment.progress.memory_bytes or guess_bytes(deployment.recipe) * deployment.wish.instances(1)
