"""The monitor's logging policies: watched, in force from the next answer on, kept on disk.

Without the monitor the last ones stay in force, also over a restart: what was to be redacted stays so, and what is
logged meanwhile waits for the monitor with all that was asked for. Where none were ever heard of, nothing but the bare
facts is logged.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import grpc
from google.protobuf.message import DecodeError
from infermesh.monitor.v1 import inference_log_pb2, logging_policy_service_pb2_grpc
from infermesh.monitor.v1 import logging_policy_service_pb2 as pb

from services.batcher.adapters.snapshot import Snapshot
from services.batcher.domain.recording import Recording, Recordings
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.redial import follow
from services.common.sampling import threshold_of
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_FAILED_PAUSE_S = 10.0

Key = tuple[str, str]
Messages = Mapping[Key, inference_log_pb2.LoggingPolicy]


class PolicyWatcher:
    """Keeps what is logged up to date."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        batcher_id: str,
        snapshot: Snapshot,
        apply: Callable[[Recordings], None],
        clock: Clock,
    ) -> None:
        self._stub = logging_policy_service_pb2_grpc.LoggingPolicyServiceStub(channel)
        self._batcher_id = batcher_id
        self._snapshot = snapshot
        self._apply = apply
        self._clock = clock
        self._messages: Messages = {}
        self._changed = asyncio.Event()

    async def restore(self) -> None:
        """Puts the last policies in force, where there are any; a damaged file is as good as none."""
        try:
            body = await asyncio.to_thread(self._snapshot.load)
            if body is not None:
                self._put_in_force(pb.WatchLoggingPoliciesResponse.FromString(body))
        except (MeshError, DecodeError, OSError) as error:
            log.warning("the kept logging policies cannot be used", error=str(error))

    async def run(self) -> None:
        """Watches for as long as the process lives."""
        await follow(self._watch, self._take, clock=self._clock, who="monitor", what="logging policies")

    async def keep(self) -> None:
        """Writes what changed to disk; what it does not take now, later."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            message = pb.WatchLoggingPoliciesResponse(policies=self._messages.values(), full=True)
            try:
                await asyncio.to_thread(self._snapshot.save, message.SerializeToString())
            except OSError as error:
                path = str(self._snapshot.path)
                log.warning("the logging policies cannot be kept on disk", path=path, error=str(error))
                self._changed.set()
                await self._clock.sleep(_FAILED_PAUSE_S)

    def _watch(self) -> AsyncIterator[pb.WatchLoggingPoliciesResponse]:
        return aiter(self._stub.WatchLoggingPolicies(pb.WatchLoggingPoliciesRequest(batcher_id=self._batcher_id)))

    async def _take(self, response: pb.WatchLoggingPoliciesResponse) -> None:
        self._put_in_force(response)
        self._changed.set()

    def _put_in_force(self, response: pb.WatchLoggingPoliciesResponse) -> None:
        messages = {} if response.full else dict(self._messages)
        messages.update({(one.model_name, one.version): one for one in response.policies})
        self._apply(Recordings({key: _recording(message) for key, message in messages.items()}))
        self._messages = messages


def _recording(message: inference_log_pb2.LoggingPolicy) -> Recording | None:
    recording = Recording(
        threshold_of(message.sample_rate),
        input_hash=message.log_input_hash,
        output=message.log_output,
        redacted=frozenset(message.redacted_fields),
    )
    return recording if recording.input_hash or recording.output or recording.redacted else None
