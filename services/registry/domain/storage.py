"""What models have stored."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StorageUse:
    """The bytes of a model's artifacts, each counted once. `team` "": nobody's."""

    team: str
    model_name: str
    stored_bytes: int
