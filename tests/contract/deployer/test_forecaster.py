"""What every `Forecaster` promises, shown for the process and for the fake; and how the process fails."""

import asyncio
import sys

import psutil
import pytest

from services.common.errors import MeshError, Reason
from services.deployer.adapters.forecaster import ProcessForecaster
from services.deployer.ports import Forecaster
from tests.support.scaling_fakes import FakeForecaster
from tests.support.waiting import eventually

DAY = 24
PATTERN = [100.0 if hour == 9 else 10.0 for hour in range(DAY)]


@pytest.fixture(params=["fake", "process"])
def forecaster(request: pytest.FixtureRequest) -> Forecaster:
    return FakeForecaster() if request.param == "fake" else ProcessForecaster()


async def test_each_series_goes_on_as_it_did(forecaster: Forecaster) -> None:
    busy, quiet = await forecaster.outlooks([PATTERN * 5, [3.0] * (4 * DAY)], day=DAY)
    assert len(busy.values) == len(quiet.values) == DAY
    assert max(range(DAY), key=lambda hour: busy.values[hour]) == 9
    assert busy.values[9] > 50
    assert max(busy.values[:9]) < 20
    assert busy.error <= 0.2
    assert all(abs(value - 3) < 0.1 for value in quiet.values)
    assert list(await forecaster.outlooks([], day=DAY)) == []


async def test_what_is_too_short_is_refused_and_said(forecaster: Forecaster) -> None:
    with pytest.raises(MeshError) as failed:
        await forecaster.outlooks([PATTERN * 2], day=DAY)
    assert failed.value.reason is Reason.DEPENDENCY_UNAVAILABLE


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('the library is broken')", "the library is broken"),
        ("import sys; sys.stdin.read(); print('nonsense')", "cannot be read"),
        ("import sys; sys.stdin.read(); print('[]')", "0 of 1 series"),
        ("import sys; sys.stdin.read(); print('[{}]')", "cannot be read"),
        ("import os; os._exit(7)", "status 7"),
    ],
)
async def test_a_process_that_fails_says_why(script: str, said: str) -> None:
    with pytest.raises(MeshError, match=said) as failed:
        await ProcessForecaster(command=(sys.executable, "-c", script)).outlooks([[1.0]], day=DAY)
    assert failed.value.reason is Reason.DEPENDENCY_UNAVAILABLE


def children(mark: str) -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if mark in " ".join(one.cmdline())]


async def test_a_process_that_takes_too_long_is_ended() -> None:
    command = (sys.executable, "-c", "import signal; mark = 'too long'; signal.pause()")
    with pytest.raises(MeshError, match=r"longer than 0\.2 s"):
        await ProcessForecaster(command=command, timeout_s=0.2).outlooks([[1.0]], day=DAY)
    assert children("too long") == []


async def test_a_process_does_not_outlive_who_waits_for_it() -> None:
    command = (sys.executable, "-c", "import signal; mark = 'given up'; signal.pause()")
    waiting = asyncio.create_task(ProcessForecaster(command=command).outlooks([[1.0]], day=DAY))
    await eventually(lambda: children("given up"), what="it has begun")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert children("given up") == []
