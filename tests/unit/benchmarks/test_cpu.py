"""CPU attribution: which thread is counted as what, in both layouts of the mesh."""

import os

from benchmarks.cpu import CpuMeter, Thread, microseconds_by_role, read_threads, spent_between

WORKER = Thread("gateway", "envoy", "wrk:worker_0", 10, 11)
MAIN = Thread("gateway", "envoy", "envoy", 10, 10)
BATCHER_WORKER = Thread("batcher", "envoy", "wrk:worker_0", 20, 21)
PYTHON = Thread("batcher", "envoy", "py:app", 20, 22)
HAND_OVER = Thread("batcher", "envoy", "py:app", 20, 23)
SERVER = Thread("triton", "tritonserver", "tritonserver", 30, 31)
STUB = Thread("triton", "triton_python_b", "triton_python_b", 32, 32)
ROUTER = Thread("router", "python", "python", 40, 40)


def test_each_thread_is_charged_to_its_role() -> None:
    spent = {WORKER: 40_000, MAIN: 1_000, BATCHER_WORKER: 20_000, PYTHON: 30_000, HAND_OVER: 5_000,
             SERVER: 7_000, STUB: 6_000, ROUTER: 2_000}  # fmt: skip
    assert dict(microseconds_by_role(spent, 10)) == {
        "gateway, worker": 4.0,
        "batcher, Python": 3.0,
        "batcher, worker": 2.0,
        "Triton": 0.7,
        "model (Triton's stub)": 0.6,
        "batcher, other threads": 0.5,
        "other services": 0.2,
        "gateway, other threads": 0.1,
    }


def test_a_batcher_within_the_gateway_has_its_python_there() -> None:
    python = Thread("gateway", "envoy", "py:app", 10, 15)
    roles = microseconds_by_role({WORKER: 50_000, MAIN: 60_000, python: 30_000}, 1)
    assert roles == {"gateway, other threads": 60.0, "gateway, worker": 50.0, "batcher, Python": 30.0}


def test_a_second_mesh_has_roles_of_its_own() -> None:
    python = Thread("gateway", "envoy", "py:app", 10, 15)
    triton = Thread("apart-triton", "tritonserver", "tritonserver", 60, 61)
    gateway = Thread("apart-gateway", "envoy", "wrk:worker_0", 70, 71)
    roles = microseconds_by_role({python: 1_000, PYTHON: 2_000, HAND_OVER: 500, triton: 4_000, gateway: 3_000}, 1)
    assert roles == {
        "Triton": 4.0, "batcher, Python": 3.0, "other services": 3.0, "batcher, other threads": 0.5
    }  # fmt: skip


def test_bare_triton_has_its_own_and_nobody_elses() -> None:
    bare = Thread("bare", "tritonserver", "tritonserver", 50, 51)
    stub = Thread("bare", "triton_python_b", "triton_python_b", 52, 53)
    assert microseconds_by_role({bare: 3_000, stub: 1_000}, 1) == {"Triton": 3.0, "model (Triton's stub)": 1.0}


def test_only_what_was_spent_between_counts() -> None:
    assert spent_between({WORKER: 5, MAIN: 7}, {WORKER: 9, MAIN: 7, PYTHON: 3}) == {WORKER: 4, PYTHON: 3}


def test_threads_are_read_from_the_kernel() -> None:
    before = read_threads("self", os.getpid())
    sum(number * number for number in range(300_000))
    after = CpuMeter(lambda: {"self": os.getpid()}).read()
    mine = next(thread for thread in after if thread.tid == os.getpid())
    assert mine.part == "self"
    assert spent_between(before, after)[mine] > 0


def test_a_process_that_is_gone_has_no_threads() -> None:
    assert read_threads("gone", 2**22 + 1) == {}
