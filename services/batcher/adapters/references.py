"""Reference samples: fetched from the registry when a version that has one is served, kept on disk by digest, read
when an explanation needs them.

The registry is asked in the background and never on the path of a request: a sample that is here needs it no more.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256

import grpc
import orjson
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

from services.batcher.adapters.sample_files import SampleFiles
from services.batcher.domain.explained import not_ready, unexplained
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import ServedVersion, ServingTable
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_DEADLINE_S = 5.0
_RETRY_MIN_S = 0.2
_RETRY_MAX_S = 30.0
_SLICE = 500
"""Models looked through before others have their turn on the loop."""
_READ_MAX = 32
"""Samples kept as tensors."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    digest: str
    model_name: str
    version: str


class References:
    """A `ReferenceSource`."""

    def __init__(self, channel: grpc.aio.Channel, *, files: SampleFiles, clock: Clock) -> None:
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
        self._files = files
        self._clock = clock
        self._table = ServingTable()
        self._news = asyncio.Event()
        """Set whenever something may be missing."""
        self._again_s = 0.0
        """When what is missing is asked for again, on the clock."""
        self._why: dict[str, str] = {}
        """Why a sample is missing, by digest."""
        self._read: OrderedDict[tuple[str, str, str], tuple[Tensor, ...]] = OrderedDict()

    async def start(self) -> None:
        """Sees what an earlier process kept."""
        await asyncio.to_thread(self._files.look)

    def serve(self, table: ServingTable) -> None:
        """Tells what is served now."""
        self._table = table
        self._news.set()

    def check(self, served: ServedVersion) -> None:
        """Raises EXPLANATION_NOT_READY where the version's sample is not here."""
        if served.reference_digest not in self._files:
            raise self._missing(served)

    async def sample(self, plan: InstancePlan) -> tuple[Tensor, ...]:
        """The version's sample as tensors; the last ones that were asked for are kept."""
        served = plan.served
        key = (served.reference_digest, served.model_name, served.version)
        tensors = self._read.get(key)
        if tensors is None:
            self.check(served)
            content = await asyncio.to_thread(self._files.read, served.reference_digest)
            if content is None:
                self._why[served.reference_digest] = "its file was damaged and is fetched again"
                self._news.set()
                raise self._missing(served)
            # Thousands of numbers may have to be looked at: not on the loop.
            tensors = await asyncio.to_thread(_tensors, plan, content)
            self._read[key] = tensors
        self._read.move_to_end(key)
        if len(self._read) > _READ_MAX:
            self._read.popitem(last=False)
        return tensors

    async def run(self) -> None:
        """Fetches what is missing for as long as the process lives; a task of the lifecycle."""
        delay_s = _RETRY_MIN_S
        while True:
            self._news.clear()
            wanted = await self._wanted()
            missing = [one for one in wanted.values() if one.digest not in self._files]
            failed = await self._fetch_all(missing, wanted)
            if not failed:
                delay_s = _RETRY_MIN_S
                await self._news.wait()
                continue
            self._again_s = self._clock.monotonic() + delay_s
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._news.wait()
            delay_s = min(2 * delay_s, _RETRY_MAX_S)

    async def _wanted(self) -> dict[str, _Wanted]:
        """Of each sample that is served, one version that has it."""
        wanted: dict[str, _Wanted] = {}
        for place, model in enumerate(list(self._table.models.values())):
            if place % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
            for served in model.versions.values():
                if served.reference_digest:
                    one = _Wanted(served.reference_digest, served.model_name, served.version)
                    wanted.setdefault(one.digest, one)
        return wanted

    async def _fetch_all(self, missing: Sequence[_Wanted], wanted: dict[str, _Wanted]) -> bool:
        """Fetches one after the other. Whether one failed."""
        self._why = {digest: why for digest, why in self._why.items() if digest in wanted}
        failed = False
        for one in missing:
            try:
                await self._fetch(one, wanted)
            except (MeshError, OSError) as error:
                failed = True
                why = error.message if isinstance(error, MeshError) else f"it cannot be written: {error}"
                if self._why.get(one.digest) != why:
                    log.warning("no reference sample", model=one.model_name, version=one.version, reason=why)
                self._why[one.digest] = why
                if isinstance(error, MeshError) and error.reason is Reason.DEPENDENCY_UNAVAILABLE:
                    self._why.update({other.digest: why for other in missing if other.digest not in self._files})
                    break
        return failed

    async def _fetch(self, one: _Wanted, wanted: dict[str, _Wanted]) -> None:
        request = registry_service_pb2.GetReferenceSampleRequest(model_name=one.model_name, version=one.version)
        answer = await self._registry.GetReferenceSample(request, timeout=_DEADLINE_S)
        digest = sha256(answer.data).hexdigest()
        if digest != one.digest:
            raise MeshError(Reason.ARTIFACT_CORRUPT, f"the registry gave {digest} where {one.digest} was promised")
        await asyncio.to_thread(self._files.write, one.digest, answer.data, keep=wanted.keys())
        self._why.pop(one.digest, None)
        log.info("reference sample", model=one.model_name, version=one.version, digest=one.digest)

    def _missing(self, served: ServedVersion) -> MeshError:
        after_s = max(_RETRY_MIN_S, self._again_s - self._clock.monotonic())
        why = self._why.get(served.reference_digest, "it is being fetched from the registry")
        return not_ready(served, why, retry_after_s=after_s)


def _tensors(plan: InstancePlan, content: bytes) -> tuple[Tensor, ...]:
    try:
        return plan.tensors(orjson.loads(content)["instances"], prefix="reference_sample.instances")
    except MeshError as error:
        raise unexplained(plan.served, f"its reference sample does not fit it: {error.message}") from error
