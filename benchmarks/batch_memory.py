"""How much memory a batch job takes for files that are much larger: read, predicted by a model that costs nothing, and
written, with the widest column copied.

    .venv/bin/python -m benchmarks.batch_memory [--gb 10] [--format parquet|csv|jsonl] [--packed gzip|zstd|bz2]
        [--limit-mb 1000]

Makes the input first, in a process of its own, and prints as JSON what the job had of memory at most above what its
process has once everything is loaded, its size, and how long it took. The bar is 1 GB for 10 GB, and the process is
given no more: the kernel refuses memory beyond it (RLIMIT_DATA), also what is only asked for and never touched. Needs
about twice the input's size of disk, in TMPDIR. Parquet has one row group for each 1,000,000 rows, far more than are
held at once.
"""

import argparse
import asyncio
import json
import multiprocessing
import random
import re
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from services.batch.adapters.objects import Buckets
from services.batch.adapters.sources import FileSources
from services.batch.adapters.workspaces import PlaceWorkspace
from services.batch.domain.job import Compression, JobSpec
from services.batch.engines.run import JobRun
from services.batch.engines.shards import Shards
from services.batch.engines.worker import Worker, WorkerOptions
from services.batch.ports import NewJob
from services.common.clock import SystemClock
from tests.support.batch_fakes import CountingBoard, MemoryBatchStore, SumsModel, spec_of

_BLOCK_ROWS = 20_000
_GROUP_ROWS = 1_000_000
_NOTE_BYTES = 480
_ROW_BYTES = _NOTE_BYTES + 20
_ENDINGS: Mapping[str, str] = {"": "", "gzip": ".gz", "zstd": ".zst", "bz2": ".bz2"}


def make(path: Path, size_bytes: int, kind: str, packed: str) -> None:
    """Writes rows of about half a KB each, until they are so many bytes before any compression."""
    rng = np.random.default_rng(1)
    sink = pa.CompressedOutputStream(str(path), packed) if packed else pa.OSFile(str(path), "wb")
    schema = pa.schema({"id": pa.int64(), "a": pa.float64(), "b": pa.int64(), "note": pa.string()})
    with sink:
        write, close = _writer(sink, schema, kind)
        for first in range(0, size_bytes // _ROW_BYTES, _BLOCK_ROWS):
            letters = rng.integers(97, 123, _BLOCK_ROWS * _NOTE_BYTES, dtype=np.uint8).tobytes().decode()
            notes = [letters[at : at + _NOTE_BYTES] for at in range(0, len(letters), _NOTE_BYTES)]
            ids = np.arange(first, first + _BLOCK_ROWS)
            write(pa.table([pa.array(ids), pa.array(ids / 4), pa.array(ids % 600), pa.array(notes)], schema=schema))
        close()


def _writer(
    sink: pa.NativeFile, schema: pa.Schema, kind: str
) -> tuple[Callable[[pa.Table], object], Callable[[], object]]:
    if kind == "csv":
        csv = pa_csv.CSVWriter(sink, schema)
        return csv.write_table, csv.close
    if kind == "jsonl":
        return lambda table: sink.write(b"".join(orjson.dumps(row) + b"\n" for row in table.to_pylist())), lambda: None
    groups = pq.ParquetWriter(sink, schema, compression="none", use_dictionary=False)
    held: list[pa.Table] = []

    def write(table: pa.Table) -> None:
        held.append(table)
        if sum(one.num_rows for one in held) >= _GROUP_ROWS:
            close_group()

    def close_group() -> None:
        if held:
            groups.write_table(pa.concat_tables(held), row_group_size=_GROUP_ROWS)
            held.clear()

    def close() -> None:
        close_group()
        groups.close()

    return write, close


async def run(spec: JobSpec, folder: Path) -> int:
    """Carries a job out. Its rows."""
    store, clock = MemoryBatchStore(SystemClock()), SystemClock()
    job = await store.create(NewJob("batch_job_1", spec, "", ""))
    (lease,) = await store.claim("one", lease_s=86_400, limit=1)
    buckets = Buckets()
    sources, workspace = FileSources(buckets), PlaceWorkspace(folder / "data", buckets)
    run = JobRun(lease=lease, job=job, store=store, sources=sources, workspace=workspace, offer=lambda: shards.wake())
    shards = Shards(store=store, board=CountingBoard(), clock=clock, lease_s=86_400, poll_period_s=0.1, told=run.adjust)
    worker = Worker(
        work=shards,
        sources=sources,
        workspace=workspace,
        model=SumsModel(),
        clock=clock,
        rng=random.Random(1),
        options=WorkerOptions(name="one", outage_timeout_s=0),
    )
    working = asyncio.create_task(worker.run(), name="worker")
    await run.run()
    working.cancel()
    await asyncio.wait([working])
    await worker.stop()
    return (await store.get(job.job_id)).processed_rows


def peak_mb() -> float:
    """The most memory that this process ever had, in MB. Not by getrusage, where a process begins with what the one had
    that started it."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None, "a kernel of Linux"
    return int(found[1]) * 1024 / 1e6


def measure(folder: Path, source: Path, *, kind: str, packed: str, copied: bool, limit_mb: int) -> dict[str, object]:
    """What a job over a file takes."""
    ending = f"{kind}{_ENDINGS[packed]}"
    spec = spec_of(str(source.with_suffix("")) + f".{kind}", str(folder / f"out.{kind}"))
    columns = ("note",) if copied else ()
    spec = replace(
        spec,
        input=replace(spec.input, path=str(source)),
        output=replace(
            spec.output,
            path=str(folder / f"out.{ending}"),
            columns=columns,
            compression=Compression(packed or "none"),
        ),
        batch_size=1000,
    )
    before_mb, began_s = peak_mb(), time.perf_counter()
    resource.setrlimit(resource.RLIMIT_DATA, (limit_mb * 1_000_000, limit_mb * 1_000_000))
    rows = asyncio.run(run(spec, folder))
    return {
        "input_mb": round(source.stat().st_size / 1e6),
        "output_mb": round(Path(spec.output.path).stat().st_size / 1e6),
        "rows": rows,
        "seconds": round(time.perf_counter() - began_s, 1),
        "before_mb": round(before_mb),
        "peak_mb": round(peak_mb()),
        "limit_mb": limit_mb,
    }


def main() -> None:
    """The figures as one line of JSON."""
    parser = argparse.ArgumentParser(description="memory of a batch job over a large file")
    parser.add_argument("--gb", type=float, default=10.0, help="size of the input before compression (10)")
    parser.add_argument("--format", choices=["parquet", "csv", "jsonl"], default="parquet")
    parser.add_argument("--packed", choices=["gzip", "zstd", "bz2"], default="")
    parser.add_argument("--no-copy", action="store_true", help="copies no column, so that the output is small")
    parser.add_argument("--limit-mb", type=int, default=1000, help="of memory, whatever is touched of it (1000)")
    asked = parser.parse_args()
    packed = "" if asked.format == "parquet" else asked.packed
    with tempfile.TemporaryDirectory(prefix="batch-memory-") as name:
        source = Path(name) / f"in.{asked.format}{_ENDINGS[packed]}"
        # What making it takes is not the job's.
        maker = multiprocessing.get_context("spawn").Process(
            target=make, args=(source, int(asked.gb * 1e9), asked.format, packed)
        )
        maker.start()
        maker.join()
        if maker.exitcode:
            raise SystemExit("the input could not be made")
        copied, limit_mb = not asked.no_copy, asked.limit_mb
        found = measure(Path(name), source, kind=asked.format, packed=packed, copied=copied, limit_mb=limit_mb)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
