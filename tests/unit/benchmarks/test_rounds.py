"""A measurement that failed over bare Triton is made once more; over the mesh it fails the run."""

from collections.abc import Awaitable, Callable

import pytest

from benchmarks.payloads import WrongAnswerError
from benchmarks.rounds import again
from benchmarks.targets import Target, bare_target, mesh_targets

BARE = bare_target("127.0.0.1:1", "digits")
(BATCHER,) = mesh_targets(gateway="", batcher="127.0.0.1:2", wanted=["batcher"])


def failing(times: int) -> Callable[[], Awaitable[int]]:
    """Fails so often, then says at which attempt it did not."""
    attempts = 0

    async def attempt() -> int:
        nonlocal attempts
        attempts += 1
        if attempts <= times:
            raise WrongAnswerError("no answer")
        return attempts

    return attempt


async def mended(target: Target, _why: Exception) -> bool:
    """Only bare Triton can be started anew."""
    return target.baseline == target.name


@pytest.mark.parametrize("failures", [0, 1, 3])
async def test_what_failed_over_bare_triton_is_measured_again(failures: int) -> None:
    assert await again(failing(failures), BARE, mended) == failures + 1


async def test_but_not_for_ever() -> None:
    with pytest.raises(WrongAnswerError):
        await again(failing(4), BARE, mended)


async def test_a_failure_of_the_mesh_is_one() -> None:
    with pytest.raises(WrongAnswerError):
        await again(failing(1), BATCHER, mended)
