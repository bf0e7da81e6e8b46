"""How fast artifacts go into the store and out of it: plain, compressed, compressed and encrypted, from a folder.

    .venv/bin/python -m benchmarks.artifact_store [GIB]

Prints for each form MB/s in and out, by the clock and by the CPU time that it took, what is stored, the most memory
that the process ever had, and the longest that the event loop was held up. The content is what weights look like:
FP32 of small spread, and the same with the precision of FP16.
"""

import asyncio
import hashlib
import resource
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np

from tests.support.registry_stores import Form, build_store

PIECE_BYTES = 1024 * 1024
FORMS = ("plain", "folder", "encrypted")


def content(path: Path, size_bytes: int) -> str:
    """Writes weights of a size; their SHA-256."""
    random, seen = np.random.default_rng(1), hashlib.sha256()
    with path.open("wb") as stream:
        for number in range(size_bytes // (16 * PIECE_BYTES)):
            weights = random.normal(0, 0.02, 4 * PIECE_BYTES).astype(np.float32)
            if number % 2:
                weights = weights.astype(np.float16).astype(np.float32)
            piece = weights.tobytes()
            stream.write(piece)
            seen.update(piece)
    return seen.hexdigest()


async def pieces(path: Path) -> AsyncIterator[bytes]:
    """A file as it would be sent."""
    with path.open("rb") as stream:
        while piece := await asyncio.to_thread(stream.read, PIECE_BYTES):
            yield piece


class Stalls:
    """The longest that the event loop did not turn, in seconds."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def watch(self) -> None:
        """Looks every 5 ms."""
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            self.longest_s = max(self.longest_s, time.perf_counter() - before - 0.005)


async def measure(kind: str, path: Path, digest: str, size_bytes: int, folder: Path) -> None:
    """One form."""
    form, stalls = Form(kind, folder / secrets.token_hex(4) / "data"), Stalls()
    store = await build_store(form, bytes_max=2**40)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(stalls.watch(), name="stalls")
        began, began_cpu = time.perf_counter(), time.process_time()
        await store.receive(pieces(path), filename="weights.bin", digest=digest)
        received, received_cpu = time.perf_counter(), time.process_time()
        seen_bytes = 0
        async for piece in store.read(digest):
            seen_bytes += len(piece)
        read, read_cpu = time.perf_counter(), time.process_time()
        watching.cancel()
    found = await store.find(digest)
    assert found is not None
    assert seen_bytes == size_bytes
    await form.close()
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size_mb = size_bytes / 1e6
    into, out = received_cpu - began_cpu, read_cpu - received_cpu
    print(
        f"{kind:10} in {size_mb / (received - began):5.0f} MB/s, {size_mb / into:5.0f} per CPU second"
        f"   out {size_mb / (read - received):5.0f} MB/s, {size_mb / out:5.0f} per CPU second"
        f"   stored {found.stored_bytes / size_bytes:6.1%}   memory {memory_mb:4.0f} MB"
        f"   loop held {stalls.longest_s * 1000:4.0f} ms"
    )


async def main(size_bytes: int) -> None:
    """All forms, one after another."""
    with tempfile.TemporaryDirectory() as above:
        path = Path(above, "weights.bin")
        digest = await asyncio.to_thread(content, path, size_bytes)
        for kind in FORMS:
            await measure(kind, path, digest, size_bytes, Path(above))


if __name__ == "__main__":
    asyncio.run(main(int(float(sys.argv[1] if len(sys.argv) > 1 else "1") * 1024**3)))
