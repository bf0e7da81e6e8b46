"""What a service that follows the registry's word on access is made of, as parts of its life."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from services.common.access.book import AccessBook
from services.common.access.follower import AccessFollower, RegistryAccessSource
from services.common.access.guard import Guard
from services.common.access.key_use import KeyUse, report_to_registry
from services.common.access.owners import RegistryOwners
from services.common.clock import Clock
from services.common.lifecycle import Lifecycle


@dataclass(frozen=True)
class AccessParts:
    """What is known of models and teams, and what refuses callers by it."""

    book: AccessBook
    guard: Guard


def new_access(
    lifecycle: Lifecycle, *, registry: grpc.aio.Channel, watcher_id: str, path: Path | None, clock: Clock
) -> AccessParts:
    """Adds a follower of the registry and the report of used keys to `lifecycle`: after the part that closes the
    channel and before the server. `path` is the file that keeps what was said last; None: nothing is kept."""
    book = AccessBook()
    source = RegistryAccessSource(registry, watcher_id=watcher_id)
    follower = AccessFollower(source=source, book=book, clock=clock, path=path)
    keys = KeyUse(report_to_registry(registry), clock=clock)
    lifecycle.add("what was said last of access", start=follower.load)
    lifecycle.add_task("registry's word on access", follower.run)
    lifecycle.add_task("kept word on access", follower.save)
    lifecycle.add("last use of keys", stop=keys.flush, stop_timeout_s=2.0)
    lifecycle.add_task("use of keys", keys.run)
    return AccessParts(book, Guard(book, owners=RegistryOwners(registry), on_key=keys.note))
