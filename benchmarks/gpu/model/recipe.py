# mypy: ignore-errors
# (PyTorch is installed in the models' environment alone, where mypy does not run)
"""What PyTorch itself says of the network on this machine, without any server: answers, times, and the card's pace.

    PYTHON benchmarks/gpu/model/recipe.py FOLDER LAYERS HIDDEN ROWS_MAX GRAPHS

Writes `samples.npz` (ids INT32 [16, 128], labels, scores in single precision) and `facts.json` into FOLDER. Raises
AssertionError where the network as it is served answers otherwise alone, in a batch, or in single precision.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from network import LENGTH, SEED, VOCABULARY, Runner, build, device, served

SAMPLES, POOL = 16, 256
MARGIN_MIN = 0.1
"""Between the two best scores of a sample, which are about 1 apart: half precision must not change its label."""
ERROR_MAX = 0.02
"""Of half precision against single: the norm of the difference over the norm."""
RUNS = 20
MATRIX = 8192


def seconds(work, runs=RUNS):
    """The median time of a run, the GPU waited for each time as a server has to."""
    times = []
    for number in range(runs + 3):
        began_s = time.perf_counter()
        work()
        if device().type == "cuda":
            torch.cuda.synchronize()
        if number >= 3:
            times.append(time.perf_counter() - began_s)
    return statistics.median(times)


def matrix_tflops():
    """What a large product of half-precision matrices reaches on this card, in 10^12 operations a second."""
    if device().type != "cuda":
        return 0.0
    left, right = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.half) for _ in range(2))
    return 2 * MATRIX**3 / seconds(lambda: left @ right) / 1e12


def main(folder, layers, hidden, rows_max, graphs):
    """Writes both files."""
    ids = np.random.default_rng(SEED + 1).integers(1000, VOCABULARY, (POOL, LENGTH), dtype=np.int32)
    runner = Runner(served(layers, hidden), rows_max, graphs=bool(graphs))
    with torch.inference_mode():
        exact = build(layers, hidden).to(device())(torch.from_numpy(ids).to(device())).cpu()
        joined = torch.cat([torch.from_numpy(runner(part)) for part in np.split(ids, range(rows_max, POOL, rows_max))])
        alone = torch.cat([torch.from_numpy(runner(row[None])) for row in ids])
        errors = [float((one - exact).norm() / exact.norm()) for one in (joined, alone)]
        assert max(errors) < ERROR_MAX, errors
        best = exact.topk(2).values
        clear = torch.nonzero(best[:, 0] - best[:, 1] > MARGIN_MIN)[:SAMPLES, 0]
        assert len(clear) == SAMPLES
        labels = exact.argmax(1)[clear]
        assert all(torch.equal(one.argmax(1)[clear], labels) for one in (joined, alone))
        sizes = [2**power for power in range(rows_max.bit_length())]
        # As a server runs it: ids to the device and scores back are within.
        rows = np.concatenate([ids] * -(-rows_max // POOL))
        times_ms = {size: 1000 * seconds(lambda size=size: runner(rows[:size])) for size in sizes}
        flops = 2 * 12 * hidden**2 * LENGTH * layers + 4 * LENGTH**2 * hidden * layers
        facts = {
            "card": torch.cuda.get_device_name() if device().type == "cuda" else "",
            "torch": torch.__version__,
            "flops_per_row": flops,
            "matrix_tflops": matrix_tflops(),
            "times_ms": times_ms,
            "half_precision_error": max(errors),
            "labels": sorted(set(labels.tolist())),
        }
    folder.mkdir(parents=True, exist_ok=True)
    chosen = clear.numpy()
    np.savez(folder / "samples.npz", ids=ids[chosen], labels=labels.numpy(), scores=exact.numpy()[chosen])
    (folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:6]))
