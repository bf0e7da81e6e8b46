"""The bridge's host, driven through arrivals, pieces, hang-ups and answers in any order.

After every step each request was answered at most once; at the end each was answered, or its caller is gone, or its
stream was let go; and nothing is kept of any.
"""

import asyncio
import contextlib
import gc
import weakref

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from services.batcher.bridge.messages import Answer, Exchange, Request, answer
from tests.support.bridge_fakes import Caller, FakeNative, FakeSite, hosting, turns

HEAD = [(b":status", b"200")]


class HostMachine(RuleBasedStateMachine):
    """Whole requests wait until they are let go; streams send back what they hear. Numbers stand for callers."""

    whole = Bundle("whole")
    streams = Bundle("streams")

    def __init__(self) -> None:
        super().__init__()
        # So that looking for what is kept of an example looks at no more than that.
        gc.freeze()
        self.runner = asyncio.Runner()
        self.life = contextlib.AsyncExitStack()
        self.gates: dict[int, asyncio.Event] = {}
        self.callers: dict[int, Caller] = {}
        """Those that C still knows: not answered and not gone."""
        self.kept: dict[int, weakref.ref[Caller]] = {}
        self.answered: dict[int, int] = {}
        self.gone: set[int] = set()
        self.sent: dict[int, bytearray] = {}
        self.echoed: dict[int, bytearray] = {}
        self.closed: set[int] = set()
        self.due: set[int] = set()
        """Those who have been sent something and not been told that they may be sent more."""
        self.next = 0
        self.native: FakeNative = self.runner.run(
            self.life.enter_async_context(hosting(FakeSite(self._hold, {"/stream": self._talk})))
        )

    async def _hold(self, request: Request) -> Answer:
        await self.gates[int(request.body)].wait()
        return answer(200, request.body, [])

    async def _talk(self, exchange: Exchange) -> None:
        more = True
        await exchange.send(b"", headers=HEAD)
        while more:
            piece, more = await exchange.receive()
            await exchange.send(piece)
        exchange.end([])

    def _arrived(self, caller: Caller) -> int:
        number = self.next
        self.next += 1
        self.callers[number] = caller
        self.kept[number] = weakref.ref(caller)
        return number

    @rule(target=whole, count=st.integers(1, 20), let_go=st.booleans())
    def arrive(self, count: int, let_go: bool) -> object:
        numbers = []
        for _ in range(count):
            self.gates[self.next] = asyncio.Event()
            if let_go:
                self.gates[self.next].set()
            numbers.append(self._arrived(self.native.whole("/hold", b"%d" % self.next)))
        return multiple(*numbers)

    @rule(target=streams)
    def open(self) -> int:
        number = self._arrived(self.native.opened("/stream"))
        self.sent[number], self.echoed[number] = bytearray(), bytearray()
        return number

    @rule(number=whole)
    def let_go(self, number: int) -> None:
        self.gates[number].set()

    @rule(number=streams, piece=st.binary(max_size=5), last=st.booleans())
    def say(self, number: int, piece: bytes, last: bool) -> None:
        if number in self.callers and number not in self.closed:
            self.native.heard(self.callers[number], piece, last=last)
            self.sent[number] += piece
            if last:
                self.closed.add(number)

    @rule(number=streams)
    def let_send(self, number: int) -> None:
        if number in self.callers and number in self.due:
            self.due.discard(number)
            self.native.writable(self.callers[number])

    @rule(number=st.one_of(consumes(whole), consumes(streams)))
    def hang_up(self, number: int) -> None:
        if number in self.callers:
            self.gone.add(number)
            self.native.gone(self.callers.pop(number))

    @rule(rounds=st.integers(1, 6))
    def turn(self, rounds: int) -> None:
        self.runner.run(turns(rounds))

    @invariant()
    def answers_at_most_once(self) -> None:
        """Takes over what was answered and flushed, as C does."""
        numbers = {caller: number for number, caller in self.callers.items()}
        flushed = {caller for flush in self.native.flushes for caller in flush}
        parts = [part for part in self.native.answers if part.caller in flushed]
        self.native.answers = [part for part in self.native.answers if part.caller not in flushed]
        self.native.flushes.clear()
        for part in parts:
            number = numbers.get(part.caller)
            if number is None:
                assert not part.end or self._is_gone(part.caller), "answered twice"
                continue
            if number in self.echoed:
                self.echoed[number] += part.body
                assert self.sent[number].startswith(self.echoed[number])
                assert number not in self.due, "sent before it might"
                if part.told:
                    self.due.add(number)
            else:
                assert (part.body, part.end) == (b"%d" % number, True)
            if part.end:
                self.answered[number] = self.answered.get(number, 0) + 1
                del self.callers[number]
        assert all(count == 1 for count in self.answered.values())

    def _is_gone(self, caller: Caller) -> bool:
        return any(self.kept[number]() is caller for number in self.gone)

    def teardown(self) -> None:
        try:
            self.runner.run(self._end())
        finally:
            self.runner.close()
            gc.unfreeze()

    async def _end(self) -> None:
        for gate in self.gates.values():
            gate.set()
        for number in self.echoed.keys() & self.callers.keys():
            self.say(number, b"", last=True)
        pieces = sum(1 + len(sent) for sent in self.sent.values())
        for _ in range(10 + pieces):
            await turns()
            self.answers_at_most_once()
            for number in list(self.due):
                self.let_send(number)
        assert sorted(self.callers) == [], "never answered"
        assert self.native.answers == [], "never flushed"
        assert set(self.answered) | self.gone == set(range(self.next))
        await turns()
        gc.collect()
        assert [number for number, caller in self.kept.items() if caller() is not None] == []
        await self.life.aclose()


TestHost = HostMachine.TestCase
TestHost.settings = settings(max_examples=60, stateful_step_count=30)
