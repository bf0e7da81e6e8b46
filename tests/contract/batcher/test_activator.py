"""What the engine relies on in whoever loads cold versions: the same of the deployer over gRPC and of the fake."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import pytest

from services.batcher.adapters.activation import DeployerActivator
from services.batcher.domain.activation import NoAnswerError
from services.batcher.ports import Activator
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from tests.support.batcher_cold import FakeActivator, ScriptedDeployer, deploying
from tests.support.waiting import eventually

REFUSAL = MeshError(
    Reason.LOAD_FAILED, "it needs 3 GB and 1 GB is free; scale another down", metadata={"k": "v"}, retry_after_s=4.0
)


class Stage(Protocol):
    """Who loads, and how to tell it what to say."""

    activator: Activator

    def say(self, outcome: MeshError | None) -> None: ...
    def take_long(self) -> None: ...
    def asked(self) -> int: ...
    def given_up(self) -> int: ...


class FakeStage:
    """In memory."""

    def __init__(self) -> None:
        self._fake = FakeActivator(load_s=0.0)
        self.activator: Activator = self._fake

    def say(self, outcome: MeshError | None) -> None:
        self._fake.outcome = outcome

    def take_long(self) -> None:
        self._fake.load_s = 1000.0

    def asked(self) -> int:
        return len(self._fake.calls)

    def given_up(self) -> int:
        return self._fake.given_up


class RealStage:
    """Over gRPC."""

    def __init__(self, deployer: ScriptedDeployer, activator: Activator) -> None:
        self._deployer = deployer
        self.activator = activator

    def say(self, outcome: MeshError | None) -> None:
        self._deployer.outcome = outcome

    def take_long(self) -> None:
        self._deployer.load = never

    def asked(self) -> int:
        return len(self._deployer.activations)

    def given_up(self) -> int:
        return self._deployer.given_up


async def never() -> None:
    await asyncio.Event().wait()


@pytest.fixture(params=["fake", "grpc"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    if request.param == "fake":
        yield FakeStage()
        return
    deployer = ScriptedDeployer()
    async with deploying(deployer) as address, open_channel(address) as channel:
        yield RealStage(deployer, DeployerActivator(channel))


async def test_it_returns_when_the_version_is_ready(stage: Stage) -> None:
    await stage.activator.activate("m", "v1.0.0")
    assert stage.asked() == 1


async def test_a_refusal_keeps_its_reason_its_words_and_when_to_come_back(stage: Stage) -> None:
    stage.say(REFUSAL)
    with pytest.raises(MeshError) as caught:
        await stage.activator.activate("m", "v1.0.0")
    error = caught.value
    assert (error.reason, error.message) == (REFUSAL.reason, REFUSAL.message)
    assert (error.metadata, error.retry_after_s) == (REFUSAL.metadata, REFUSAL.retry_after_s)


async def test_cancelling_gives_the_call_up(stage: Stage) -> None:
    stage.take_long()
    call = asyncio.create_task(stage.activator.activate("m", "v1.0.0"))
    await eventually(lambda: stage.asked() == 1, what="it is being loaded")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: stage.given_up() == 1, what="whoever loads knows")


async def test_nobody_at_the_address_is_no_answer() -> None:
    async with open_channel("127.0.0.1:1") as channel:
        with pytest.raises(NoAnswerError, match=r"127\.0\.0\.1:1 does not answer"):
            await DeployerActivator(channel).activate("m", "v1.0.0")


async def test_a_call_that_takes_too_long_is_no_answer() -> None:
    deployer = ScriptedDeployer()
    deployer.load = never
    async with deploying(deployer) as address, open_channel(address) as channel:
        with pytest.raises(NoAnswerError):
            await DeployerActivator(channel, deadline_s=0.2).activate("m", "v1.0.0")


async def test_a_deployer_that_goes_meanwhile_is_no_answer() -> None:
    deployer, begun = ScriptedDeployer(), asyncio.Event()

    async def begin() -> None:
        begun.set()
        await never()

    deployer.load = begin
    async with deploying(deployer) as address:
        channel = open_channel(address)
        call = asyncio.create_task(DeployerActivator(channel).activate("m", "v1.0.0"))
        await begun.wait()
    with pytest.raises(NoAnswerError):
        await call
    await channel.close()


@pytest.mark.parametrize(
    ("told", "raised"),
    [
        (MeshError(Reason.SHUTTING_DOWN, "going"), NoAnswerError),
        (MeshError(Reason.DEPENDENCY_UNAVAILABLE, "no Triton answers"), MeshError),
    ],
)
async def test_a_deployer_that_stops_is_no_answer_and_what_it_lacks_is_one(
    told: MeshError, raised: type[Exception]
) -> None:
    deployer = ScriptedDeployer()
    deployer.outcome = told
    async with deploying(deployer) as address, open_channel(address) as channel:
        with pytest.raises(raised, match=told.message):
            await DeployerActivator(channel).activate("m", "v1.0.0")


@pytest.mark.parametrize("reason", [Reason.PERMISSION_DENIED, Reason.UNAUTHENTICATED, Reason.NOT_IMPLEMENTED])
async def test_callers_are_not_blamed_for_what_the_deployer_has_against_the_batcher(reason: Reason) -> None:
    deployer = ScriptedDeployer()
    deployer.outcome = MeshError(reason, "not from you")
    async with deploying(deployer) as address, open_channel(address) as channel:
        with pytest.raises(MeshError, match="not from you") as caught:
            await DeployerActivator(channel).activate("m", "v1.0.0")
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
