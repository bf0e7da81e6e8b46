"""The ways to ask the encoder, and how many rows their batches have."""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.bare_triton import Setting
from benchmarks.gpu.batcher import BATCHED, MODEL, SINGLE, TWO
from benchmarks.gpu.passages import Sizes, infer
from benchmarks.gpu.triton import Encoder
from benchmarks.targets import Target

BARE_ON, BARE_OFF, MESH_ON, MESH_OFF, MESH_TWO = "bare-on", "bare-off", "batcher-on", "batcher-off", "batcher-two"
_TITLES = {
    BATCHED: (MESH_ON, "batcher, adaptive", BARE_ON),
    SINGLE: (MESH_OFF, "batcher, none", BARE_OFF),
    TWO: (MESH_TWO, "batcher, adaptive, 2 instances", BARE_ON),
}
_SCRAPE_TIMEOUT_S = 5.0


def settings(rows_max: int, *, quick: bool) -> tuple[Setting, ...]:
    """What bare Triton is tried with for many callers."""
    windows = (0,) if quick else (0, 1000, 5000)
    tried = [(rows_max, delay_us) for delay_us in windows]
    if not quick:
        tried += [(rows_max // 2, delay_us) for delay_us in (0, 1000)]
    return tuple(Setting(rows, delay_us, (), copies) for rows, delay_us in tried for copies in (1, 2))


def bare(address: str, setting: Setting, sizes: Sizes) -> Target:
    """Bare Triton in a setting."""
    model_name = Encoder(setting, gpu=False, sizes=sizes).name
    name, title = (BARE_ON, "bare Triton, batching") if setting.rows_max else (BARE_OFF, "bare Triton, none")
    return Target(name, address, lambda sample: infer(model_name, sample), title, name)


def through_batcher(address: str, version: str) -> Target:
    """A version behind the batcher."""
    name, title, baseline = _TITLES[version]
    return Target(name, address, lambda sample: infer(MODEL, sample, version=version), title, baseline)


@dataclass(frozen=True, slots=True)
class Batches:
    """What was run since a server's start."""

    rows: float = 0.0
    batches: float = 0.0

    def mean_since(self, before: "Batches") -> float:
        """Rows of a batch between two looks; 0 where there was none."""
        count = self.batches - before.batches
        return (self.rows - before.rows) / count if count else 0.0


def batches_of(page: str) -> Mapping[str, Batches]:
    """By model of a Triton or version of a batcher, out of their Prometheus pages."""
    rows: dict[str, float] = {}
    batches: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            key = sample.labels.get("version", "") if family.name == "model_batch_size" else sample.labels.get("model")
            if key is None:
                continue
            if sample.name in {"nv_inference_count", "nv_inference_count_total", "model_batch_size_sum"}:
                rows[key] = rows.get(key, 0.0) + sample.value
            elif sample.name in {"nv_inference_exec_count", "nv_inference_exec_count_total", "model_batch_size_count"}:
                batches[key] = batches.get(key, 0.0) + sample.value
    return {key: Batches(rows[key], batches.get(key, 0.0)) for key in rows}


async def read_batches(metrics_address: str) -> Mapping[str, Batches]:
    """What a server says now. Raises httpx.HTTPError."""
    async with httpx.AsyncClient(trust_env=False, timeout=_SCRAPE_TIMEOUT_S) as client:
        page = (await client.get(f"http://{metrics_address}/metrics")).raise_for_status()
    return batches_of(page.text)
