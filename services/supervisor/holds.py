"""Parts that are to stay down once they are: for whoever wants to see how the mesh lives without them.

`touch .data/hold/router` and a kill of the router keep it down until the file is gone. Without a file a part that died
is started again as always.
"""

from pathlib import Path
from typing import Protocol

from services.common.clock import Clock

_LOOK_EVERY_S = 0.2


class Holds(Protocol):
    """What the supervisor asks before it starts a part again."""

    def held(self, name: str) -> bool:
        """Whether the part of this name is to stay down."""
        ...

    async def released(self, name: str) -> None:
        """Returns once it is not."""
        ...


class NoHolds:
    """Nothing is held."""

    def held(self, name: str) -> bool:  # noqa: ARG002 - as every other
        """Never."""
        return False

    async def released(self, name: str) -> None:
        """At once."""


class HoldFiles:
    """A part is held while a file of its name is in the folder `hold` of the mesh's data."""

    def __init__(self, data_dir: Path, *, clock: Clock) -> None:
        self._folder = data_dir / "hold"
        self._clock = clock

    def held(self, name: str) -> bool:
        """Whether the file is there."""
        return (self._folder / name).exists()

    async def released(self, name: str) -> None:
        """Returns once the file is gone. It looks again and again: a person made it, and tells nobody of its end."""
        while self.held(name):
            await self._clock.sleep(_LOOK_EVERY_S)
