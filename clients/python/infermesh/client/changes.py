"""What changed in the registry: the audit log, and the changes as they happen."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from infermesh.client.errors import InfermeshError
from infermesh.client.metrics import timestamp
from infermesh.client.transport import Pacer, Transport, all_pages
from infermesh.registry.v1 import change_pb2, registry_service_pb2, registry_service_pb2_grpc

WATCH_TIMEOUT_S = 24 * 3600.0
"""How long a watch goes on where nothing else is said."""
OUTAGE_TIMEOUT_S = 60.0
"""How long the registry or the gateway may be away before a watch gives up."""
_PASSING = frozenset({"DEPENDENCY_UNAVAILABLE", "GATEWAY_UNREACHABLE", "SHUTTING_DOWN", "UNAVAILABLE"})
_PAGE_SIZE = 200


class Changes:
    """Who changed what, in the order in which it was committed."""

    def __init__(
        self,
        transport: Transport,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = transport
        self._stub = registry_service_pb2_grpc.RegistryServiceStub(transport.channel)
        self._monotonic = monotonic
        self._sleep = sleep

    def list(
        self,
        *,
        resource_type: str = "",
        resource_name: str = "",
        actor: str = "",
        team: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[change_pb2.Change]:
        """The audit log, newest first; every filter that is given must hold. `start` and `end` are aware moments."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> registry_service_pb2.ListChangesResponse:
            request = registry_service_pb2.ListChangesRequest(
                resource_type=resource_type,
                resource_name=resource_name,
                actor=actor,
                team=team,
                start_time=timestamp(start),
                end_time=timestamp(end),
                page_size=size,
                page_token=token,
            )
            return self._transport.call(self._stub.ListChanges, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.changes, limit=limit)

    def watch(
        self,
        *,
        cursor: str = "",
        resource_types: Sequence[str] = (),
        model: str = "",
        timeout_s: float = WATCH_TIMEOUT_S,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
    ) -> Iterator[change_pb2.Change]:
        """Changes as they happen, each at least once, for `timeout_s` seconds.

        `cursor` is that of the last change that was handled; empty begins with the next one, "0" with the first there
        is. A stream that breaks goes on where it was, up to `outage_timeout_s` seconds later. Raises InfermeshError:
        INVALID_FIELD for a cursor that this registry did not give out.
        """
        deadline_s = self._monotonic() + timeout_s
        pacer: Pacer | None = None
        while (left_s := deadline_s - self._monotonic()) > 0:
            request = registry_service_pb2.WatchChangesRequest(
                cursor=cursor, resource_types=resource_types, model_name=model
            )
            try:
                for message in self._transport.stream(self._stub.WatchChanges, request, timeout_s=left_s):
                    cursor, pacer = message.cursor, None
                    if message.HasField("change"):
                        yield message.change
            except InfermeshError as error:
                if error.reason == "DEADLINE_EXCEEDED":
                    return
                if error.reason not in _PASSING:
                    raise
                pacer = pacer or Pacer(
                    timeout_s=outage_timeout_s, monotonic=self._monotonic, sleep=self._sleep, most_s=2.0
                )
                if not pacer.pause():
                    raise
            else:
                # The registry stops, and says so by ending the stream.
                self._sleep(0.1)
