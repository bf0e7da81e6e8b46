"""Measures CPU and GPU use every 15 s, while there are deployments whose replicas follow it."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from services.common.clock import Clock
from services.deployer.domain.deployment import Deployment
from services.deployer.domain.usage import CopyUse, cpu_percent
from services.deployer.ports import CopyUsage, GpuUsage

SAMPLE_EVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class Measured:
    """A use in percent. `percent` None: not known, and `visible` says whether it will be."""

    percent: float | None
    visible: bool = True


@dataclass(frozen=True, slots=True)
class _Sample:
    began_s: float = -inf
    """What it tells of begins then."""
    cpu: Mapping[str, Mapping[str, CopyUse]] | None = None
    gpu: Mapping[str, float] | None = None


class Usage:
    """Call `look` at each look of the loop, and let `run` measure."""

    def __init__(self, *, copies: CopyUsage, gpus: GpuUsage, clock: Clock, threads_default: int) -> None:
        self._copies = copies
        self._gpus = gpus
        self._clock = clock
        self._threads_default = threads_default
        self._cpu_wanted = False
        self._gpu_wanted = False
        self._sample = _Sample()
        self._measured_s = -inf

    def look(self, deployments: Iterable[Deployment]) -> None:
        """Measures what the targets of these ask for."""
        scalings = [one.wish.autoscaling for one in deployments if one.wish.autoscaling is not None]
        self._cpu_wanted = any(one.enabled and one.target_cpu_percent > 0 for one in scalings)
        self._gpu_wanted = any(one.enabled and one.target_gpu_percent > 0 for one in scalings)

    def cpu(self, deployment: Deployment, servers: Collection[str], since_s: float) -> Measured:
        """Of what the deployment's replicas may use on these servers, measured since then at the earliest."""
        sample = self._sample
        if sample.cpu is None:
            return Measured(None)
        seen = [sample.cpu[name] for name in servers if name in sample.cpu]
        if not seen:
            return Measured(None, visible=False)
        if sample.began_s < since_s:
            return Measured(None)
        uses = [models[deployment.server_model_name] for models in seen if deployment.server_model_name in models]
        return Measured(cpu_percent(uses, deployment.wish, threads_default=self._threads_default))

    def gpu(self, servers: Collection[str], since_s: float) -> Measured:
        """Of these servers' GPUs, measured since then at the earliest."""
        sample = self._sample
        if sample.gpu is None:
            return Measured(None)
        seen = [sample.gpu[name] for name in servers if name in sample.gpu]
        if not seen:
            return Measured(None, visible=False)
        return Measured(sum(seen) / len(seen) if sample.began_s >= since_s else None)

    async def run(self) -> None:
        """Measures, for as long as it runs."""
        while True:
            await self.measure()
            await self._clock.sleep(SAMPLE_EVERY_S)

    async def measure(self) -> None:
        """Takes a sample, of the time since the one before."""
        began_s, self._measured_s = self._measured_s, self._clock.monotonic()
        cpu = await self._copies.sample() if self._cpu_wanted else None
        gpu = await self._gpus.sample() if self._gpu_wanted else None
        # The first sample has none before it to be compared with, nor has the first after a pause.
        had = cpu is None or self._sample.cpu is not None
        self._sample = _Sample(began_s if had else inf, cpu, gpu)
