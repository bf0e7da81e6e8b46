"""How fast a job over a file is, and what it costs callers: `python -m benchmarks.batch_rows [--rows 1000000]`.

A mesh of its own and one Parquet file of digits, made by a seed. Timed is the job from the call that makes it to its
output, and in the same run onnxruntime in a plain loop over the same file: read, predict 1,000 rows, write Parquet, one
after the other in one process. Where the job's time goes is what its workers say of themselves, summed over what ran
at once, and the CPU of each part of the mesh.

Then callers ask at a steady rate, of an otherwise idle mesh and while the job runs, in turns.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2, batch_service_pb2_grpc
from rich.console import Console

from benchmarks.cpu import CpuMeter, Reading, spent_between
from benchmarks.mesh import ROWS_MAX, BenchMesh, bench_mesh
from benchmarks.open_loop import FIRST_IN_LINE, LEAD_IN_S, Outcome, first_in_line, run_script
from benchmarks.payloads import MODEL, VERSION, digits, open_inference
from benchmarks.pooled import pooled_ratio
from benchmarks.report import new_table, this_machine
from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from services.supervisor.examples import DIGITS
from services.supervisor.settings import ROOT

CLOCK = SystemClock()
_GROUP_ROWS = 100_000
_BATCH_ROWS = 1_000
_PIXELS = 64
_WITHIN_S = 3600.0
_BEGUN_WITHIN_S = 30.0
_PLAIN_LOOP = """
import sys, time
import numpy as np, onnxruntime, pyarrow as pa, pyarrow.parquet as pq
source, target, model, rows = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
outputs = [output.name for output in session.get_outputs()]
(name,) = [given.name for given in session.get_inputs()]
spent = dict.fromkeys(("read", "predict", "write"), 0.0)
began = time.perf_counter()
writer, batches = None, pq.ParquetFile(source).iter_batches(rows)
while True:
    at = time.perf_counter()
    batch = next(batches, None)
    if batch is None:
        break
    pixels = batch.column("X").flatten().to_numpy().reshape(batch.num_rows, -1)
    read = time.perf_counter()
    answers = session.run(outputs, {name: pixels})
    predicted = time.perf_counter()
    columns = {"id": batch.column("id")}
    for label, answer in zip(outputs, answers):
        columns[label] = pa.array(answer) if answer.ndim == 1 else pa.FixedSizeListArray.from_arrays(
            pa.array(answer.ravel()), answer.shape[1])
    table = pa.table(columns)
    writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd")
    writer.write_table(table)
    spent["read"] += read - at
    spent["predict"] += predicted - read
    spent["write"] += time.perf_counter() - predicted
writer.close()
print(time.perf_counter() - began, spent["read"], spent["predict"], spent["write"])
"""
"""Runs in the Python of this environment with the onnxruntime of the one that serves."""


@dataclass(frozen=True, slots=True)
class Timed:
    """What one way over the file took, in seconds."""

    seconds: float
    read_s: float
    predict_s: float
    write_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """A job that is complete."""

    timed: Timed
    retries: float
    latency_ms: float
    cpu_s: Mapping[str, float]
    """By part of the mesh, what a part started included."""


def make_file(path: Path, rows: int, *, seed: int) -> None:
    """Digits that are kept out of the training, in an order and with a noise that the seed says."""
    rng = np.random.default_rng(seed)
    kept = np.concatenate([sample.rows for sample in digits()])
    schema = pa.schema([("id", pa.int64()), ("X", pa.list_(pa.float32()))])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, _GROUP_ROWS):
            count = min(_GROUP_ROWS, rows - first)
            noise = rng.integers(-1, 2, (count, _PIXELS)).astype(np.float32)
            pixels = np.clip(kept[rng.integers(0, len(kept), count)] + noise, 0, 16)
            offsets = pa.array(np.arange(count + 1, dtype=np.int32) * _PIXELS)
            column = pa.ListArray.from_arrays(offsets, pa.array(pixels.ravel()))
            writer.write_table(pa.table([pa.array(np.arange(first, first + count)), column], schema=schema))


def plain_loop(source: Path, target: Path) -> Timed:
    """The same rows without a mesh. Raises CalledProcessError."""
    (site,) = (ROOT / ".venv-serving" / "lib").glob("python*/site-packages")
    code = f"import sys; sys.path.append({str(site)!r})\n{_PLAIN_LOOP}"
    model = DIGITS / f"{MODEL}-{VERSION}.onnx"
    run = subprocess.run(
        [sys.executable, "-c", code, str(source), str(target), str(model), str(_BATCH_ROWS)],
        check=True,
        capture_output=True,
        text=True,
    )
    return Timed(*(float(word) for word in run.stdout.split()))


def by_part(before: Reading, after: Reading) -> Mapping[str, float]:
    """Seconds of CPU of each part of the mesh between two readings."""
    cpu_s: dict[str, float] = defaultdict(float)
    for thread, nanoseconds in spent_between(before, after).items():
        cpu_s[thread.part] += nanoseconds / 1e9
    return cpu_s


class Jobs:
    """Makes jobs over one file."""

    def __init__(self, mesh: BenchMesh, stub: "batch_service_pb2_grpc.BatchServiceAsyncStub", source: Path) -> None:
        self._stub = stub
        self._source = source
        self.meter = CpuMeter(mesh.pids)

    async def submit(self, target: Path, options: argparse.Namespace) -> str:
        """The id of a job that writes `target`."""
        request = batch_service_pb2.CreateBatchJobRequest(
            model_name=MODEL,
            model_version=VERSION,
            input_uri=str(self._source),
            output_uri=str(target),
            batch_size=options.batch_size,
            max_parallelism=options.parallelism,
        )
        return str((await self._stub.CreateBatchJob(request)).job_id)

    async def complete(self, target: Path, options: argparse.Namespace) -> Job:
        """A job from its call to its output. Raises SystemExit where it fails or a row does."""
        began, began_s = self.meter.read(), CLOCK.monotonic()
        job = await self._ended(await self.submit(target, options))
        seconds = CLOCK.monotonic() - began_s
        if job.status != "completed" or job.progress.failed_records:
            raise SystemExit(f"the job is {job.status}: {job.error_message}; {job.progress.failed_records} rows failed")
        cpu_s = by_part(began, self.meter.read())
        figures = job.metrics
        timed = Timed(seconds, figures.read_s, figures.predict_s, figures.write_s)
        return Job(timed, figures.retry_count, figures.avg_latency_ms, cpu_s)

    async def begun(self, job_id: str) -> None:
        """Returns once a row is done."""
        async with asyncio.timeout(_BEGUN_WITHIN_S):
            async for job in self._watch(job_id):
                if job.progress.processed_records:
                    return

    async def rows(self, job_id: str) -> int:
        """How many are done. Raises SystemExit where the job has ended."""
        job = await self._stub.GetBatchJob(batch_service_pb2.GetBatchJobRequest(job_id=job_id))
        if job.status != "running":
            raise SystemExit("the job ended while callers were timed; give it more --rows or fewer --seconds")
        return int(job.progress.processed_records)

    async def cancel(self, job_id: str) -> None:
        """Ends the job."""
        await self._stub.CancelBatchJob(batch_service_pb2.CancelBatchJobRequest(job_id=job_id))

    async def _ended(self, job_id: str) -> batch_job_pb2.BatchJob:
        last = batch_job_pb2.BatchJob()
        async for job in self._watch(job_id):
            last = job
        return last

    async def _watch(self, job_id: str) -> AsyncIterator[batch_job_pb2.BatchJob]:
        request = batch_service_pb2.WatchBatchJobRequest(job_id=job_id)
        async for job in self._stub.WatchBatchJob(request, timeout=_WITHIN_S):
            yield job


async def callers(mesh: BenchMesh, options: argparse.Namespace, folder: Path) -> Outcome:
    """Paced requests of one row."""
    times = np.arange(0, LEAD_IN_S + options.seconds, 1 / options.rate)
    call = open_inference(MODEL, digits()[0])
    return await run_script(address=mesh.gateway, call=call, times=times, seconds=options.seconds, folder=folder)


async def _metered(
    mesh: BenchMesh, jobs: Jobs, options: argparse.Namespace, folder: Path
) -> tuple[Outcome, Mapping[str, float]]:
    """Callers, and how many cores each part of the mesh took meanwhile."""
    began, began_s = jobs.meter.read(), CLOCK.monotonic()
    outcome = await callers(mesh, options, folder)
    seconds = CLOCK.monotonic() - began_s
    return outcome, {part: spent_s / seconds for part, spent_s in by_part(began, jobs.meter.read()).items()}


@dataclass(frozen=True, slots=True)
class Round:
    """Callers without and with the job, and how fast the job was beside them."""

    without: Outcome
    beside: Outcome
    rows_per_s: float
    cores: Mapping[str, float]
    """By part of the mesh: how much of a core it took beside them more than without the job."""


async def beside(mesh: BenchMesh, jobs: Jobs, options: argparse.Namespace, folder: Path) -> list[Round]:
    """Callers without and with the job, in turns."""
    rounds = []
    if first_in_line():
        print(FIRST_IN_LINE)
    for turn in range(options.rounds):
        # Every other time the other way round, so that a machine that grows slower favours neither.
        early = await _metered(mesh, jobs, options, folder) if turn % 2 == 0 else None
        job_id = await jobs.submit(folder / f"beside-{turn}.parquet", options)
        await jobs.begun(job_id)
        before, began_s = await jobs.rows(job_id), CLOCK.monotonic()
        beside_it, busy = await _metered(mesh, jobs, options, folder)
        rows_per_s = (await jobs.rows(job_id) - before) / (CLOCK.monotonic() - began_s)
        await jobs.cancel(job_id)
        without, idle = early or await _metered(mesh, jobs, options, folder)
        cores = {part: share - idle.get(part, 0.0) for part, share in busy.items()}
        rounds.append(Round(without, beside_it, rows_per_s, cores))
        print(
            f"round {turn + 1}: p50 {without.percentile_ms(50):.2f} and {beside_it.percentile_ms(50):.2f} ms, "
            f"p99 {without.percentile_ms(99):.2f} and {beside_it.percentile_ms(99):.2f} ms; {rows_per_s:,.0f} rows/s",
            flush=True,
        )
    return rounds


async def measure(options: argparse.Namespace) -> None:
    """Prints what was measured."""
    console, machine = Console(width=140), this_machine()
    console.print(f"{machine.cores} cores of {machine.cpu}, load before {machine.load_before:.1f}; {options.rows} rows")
    with tempfile.TemporaryDirectory(prefix="batch-rows-") as name:
        folder = Path(name)
        source = folder / "digits.parquet"
        make_file(source, options.rows, seed=options.seed)
        told = {"INFERMESH_BATCH_WORKERS": str(options.workers)} if options.workers >= 0 else {}
        async with bench_mesh(folder, clock=CLOCK, told=told) as mesh:
            await mesh.allow_batches(options.batch_rows)
            async with open_channel(f"127.0.0.1:{mesh.ports['batch']}") as channel:
                jobs = Jobs(mesh, batch_service_pb2_grpc.BatchServiceStub(channel), source)
                done, loops = [], []
                for turn in range(options.times):
                    loops.append(await asyncio.to_thread(plain_loop, source, folder / f"plain-{turn}.parquet"))
                    done.append(await jobs.complete(folder / f"job-{turn}.parquet", options))
                    _check(folder / f"job-{turn}.parquet", options.rows)
                _show_rows(console, options.rows, done, loops)
                if options.rounds:
                    _show_callers(console, await beside(mesh, jobs, options, folder))


def _check(target: Path, rows: int) -> None:
    ids = pq.read_table(target, columns=["id"]).column("id").to_numpy()
    if not np.array_equal(ids, np.arange(rows)):
        raise SystemExit("the output has other rows than the input")


def _show_rows(console: Console, rows: int, jobs: Sequence[Job], loops: Sequence[Timed]) -> None:
    table = new_table("Rows", "way", "s", "rows/s", "read", "predict", "write", text=("way",))
    for way, timed in [("job", [job.timed for job in jobs]), ("onnxruntime in a plain loop", loops)]:
        one = sorted(timed, key=lambda item: item.seconds)[len(timed) // 2]
        whole = one.read_s + one.predict_s + one.write_s
        shares = [f"{100 * part / whole:.0f} %" for part in (one.read_s, one.predict_s, one.write_s)]
        table.add_row(way, f"{one.seconds:.1f}", f"{rows / one.seconds:,.0f}", *shares)
    console.print(table)
    job = sorted(jobs, key=lambda item: item.timed.seconds)[len(jobs) // 2]
    spent = ", ".join(f"{part} {seconds:.1f}" for part, seconds in sorted(job.cpu_s.items(), key=lambda one: -one[1]))
    console.print(f"seconds of CPU: {spent}; a request took {job.latency_ms:.1f} ms; {job.retries:.0f} sent again")


def _show_callers(console: Console, rounds: Sequence[Round]) -> None:
    table = new_table("Callers", "mesh", "p50 ms", "p95 ms", "p99 ms", "errors", text=("mesh",))
    for name, outcomes in (
        ("without the job", [one.without for one in rounds]),
        ("with the job", [one.beside for one in rounds]),
    ):
        figures = [statistics.median(one.percentile_ms(which) for one in outcomes) for which in (50, 95, 99)]
        table.add_row(name, *(f"{figure:.2f}" for figure in figures), str(sum(one.errors for one in outcomes)))
    console.print(table)
    ratio = pooled_ratio([one.without for one in rounds], [one.beside for one in rounds], percentile=99)
    alone = [one.beside.percentile_ms(99) / one.without.percentile_ms(99) for one in rounds]
    rows_per_s = statistics.median(one.rows_per_s for one in rounds)
    console.print(
        f"p99 with the job is {ratio} [1.05] of all rounds together, {min(alone):.2f} to {max(alone):.2f} of single "
        f"ones; it does {rows_per_s:,.0f} rows/s beside them"
    )
    parts = {part: statistics.median(one.cores.get(part, 0.0) for one in rounds) for part in rounds[0].cores}
    spent = ", ".join(f"{part} {cores:+.3f}" for part, cores in sorted(parts.items(), key=lambda one: -one[1]))
    console.print(f"cores that it takes beside them: {spent}")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, default=3, help="jobs, and plain loops, in turns")
    parser.add_argument("--batch-size", type=int, default=_BATCH_ROWS)
    parser.add_argument("--parallelism", type=int, default=10)
    parser.add_argument("--batch-rows", type=int, default=ROWS_MAX, help="the most that the batcher sends at once")
    parser.add_argument("--workers", type=int, default=-1, help="INFERMESH_BATCH_WORKERS; -1: as it is")
    parser.add_argument("--rounds", type=int, default=5, help="of callers without and with the job; 0: none")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=200.0)
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
