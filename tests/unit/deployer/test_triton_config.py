"""config.pbtxt of every framework, backend, device and number format, to the letter.

INFERMESH_TEST_REWRITE=1 writes the golden files anew; read what `git diff` says of them then.
"""

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.triton_config_cases import GPUS, Case, cases

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "triton_config"
REFUSED = "refused.txt"
EVERY = list(cases())
CASES = {case.name: case for case in EVERY if isinstance(case, Case)}
WANTED = {f"{name}.pbtxt": case.config for name, case in CASES.items()} | {
    REFUSED: "".join(f"{line}\n" for line in EVERY if isinstance(line, str))
}


@pytest.mark.parametrize("name", sorted(WANTED))
def test_it_is_the_golden_file(name: str) -> None:
    place = GOLDEN / name
    if os.environ.get("INFERMESH_TEST_REWRITE"):
        place.parent.mkdir(exist_ok=True)
        place.write_text(WANTED[name])
    golden = place.read_text() if place.exists() else ""
    lines = difflib.unified_diff(
        golden.splitlines(keepends=True), WANTED[name].splitlines(keepends=True), f"golden {name}", "written now"
    )
    assert golden == WANTED[name], f"INFERMESH_TEST_REWRITE=1 takes this over:\n{''.join(lines)}"


def test_there_is_no_golden_file_of_nothing() -> None:
    assert {file.name for file in GOLDEN.iterdir()} == set(WANTED)


@pytest.fixture(scope="module")
def parsed() -> Mapping[str, Mapping[str, Any]]:
    """Each golden file, as Triton's own ModelConfig reads it."""
    command = [sys.executable, "-m", "tests.support.parse_triton_configs", str(GOLDEN)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=GOLDEN.parents[2])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_tritons_own_parser_knows_every_field(parsed: Mapping[str, Mapping[str, Any]]) -> None:
    assert set(parsed) == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_it_means_what_was_wished(parsed: Mapping[str, Mapping[str, Any]], name: str) -> None:
    config, case = parsed[name], CASES[name]
    wish, groups = case.wish, config["instance_group"]
    assert (config["name"], config["backend"]) == ("digits--v1.0.0", case.backend)
    assert sum(group["count"] for group in groups) == wish.instances(wish.resources.replicas)
    assert {group["kind"] for group in groups} == {"KIND_GPU" if wish.resources.gpu else "KIND_CPU"}
    assert len({gpu for group in groups for gpu in group.get("gpus", ())}) == min(
        wish.resources.gpu * wish.resources.replicas, len(GPUS)
    )
    # Triton batches nothing, and the batch is the first dimension but where the backend has Triton add it.
    assert not {"dynamic_batching", "sequence_batching", "ensemble_scheduling"} & set(config)
    tensors = [*config["input"], *config["output"]]
    assert ("max_batch_size" in config) == (case.backend == "fil")
    assert all((tensor["dims"][0] == "-1") == (case.backend != "fil") for tensor in tensors)
    parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
    threads = {
        "onnxruntime": "intra_op_thread_count",
        "pytorch": "INTRA_OP_THREAD_COUNT",
        "tensorflow": "TF_NUM_INTRA_THREADS",
        "fil": "cpu_nthread",
    }
    if case.backend in threads:
        assert parameters[threads[case.backend]] == str(wish.serving.threads or 1)
    half = config.get("optimization", {}).get("execution_accelerators", {}).get("gpu_execution_accelerator", [])
    assert len(half) == (wish.serving.precision == "fp16" and case.backend != "python")
    assert config.get("default_model_filename", "") == (
        "model.int8.onnx" if wish.serving.precision == "int8" and case.backend == "onnxruntime" else ""
    )
