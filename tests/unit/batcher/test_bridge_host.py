"""The bridge's host over a fake of its C: what requests become, when answers are flushed, what is forgotten."""

import asyncio
import gc
import weakref

import pytest

from services.batcher.bridge.messages import Answer, Exchange, Request, answer
from tests.support.bridge_fakes import Caller, FakeSite, Part, hosting, turns

HEAD = [(b":status", b"200")]


async def echo(request: Request) -> Answer:
    return Answer(HEAD, request.body, [(b"x-end", b"1")])


async def silence(_request: Request) -> Answer:
    raise AssertionError("only streams come here")


async def never(_exchange: Exchange) -> None:
    raise AssertionError("this stream was given up before it began")


class Held:
    """A handler that waits until it is let go, and knows what became of it."""

    def __init__(self) -> None:
        self.begun = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self, request: Request) -> Answer:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return answer(200, request.body, [])


def forgotten(caller: "weakref.ref[Caller]") -> bool:
    gc.collect()
    return caller() is None


async def test_a_whole_request_is_answered_once_and_flushed() -> None:
    async with hosting(FakeSite(echo)) as native:
        caller = native.whole("/echo", b"body")
        await turns()
        assert native.answers == [Part(caller, HEAD, b"body", [(b"x-end", b"1")], end=True, told=False)]
        assert native.flushes == [[caller]]


async def test_a_handler_sees_method_headers_and_whether_the_body_was_cut_off() -> None:
    seen: list[Request] = []

    async def look(request: Request) -> Answer:
        seen.append(request)
        return answer(204, b"", [])

    async with hosting(FakeSite(look)) as native:
        native.whole("/a", b"x", method="PUT", headers={b"x-one": b"\xff"})
        native.whole("/b", b"y" * 10, cut_off=True)
        await turns()
    whole, cut_off = seen
    assert (whole.method, whole.path, whole.body, whole.complete) == ("PUT", "/a", b"x", True)
    assert whole.headers == {b"x-one": b"\xff"}
    assert (cut_off.path, cut_off.body, cut_off.complete) == ("/b", b"y" * 10, False)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a/b", "/a/b"),
        ("/a?x=1", "/a"),
        ("/a?x=/b?y", "/a"),
        ("/v2/models/a%20b", "/v2/models/a b"),
        ("/caf%C3%A9?%2F", "/café"),
        ("/a%3Fb", "/a?b"),
        ("/a%2", "/a%2"),
        ("/%ff", "/\ufffd"),
        ("?", ""),
        ("", ""),
    ],
)
async def test_a_path_is_without_its_query_and_percent_decoded(target: str, path: str) -> None:
    seen: list[str] = []

    async def look(request: Request) -> Answer:
        seen.append(request.path)
        return answer(200, b"", [])

    site = FakeSite(look)
    async with hosting(site) as native:
        native.whole(target)
        await turns()
    assert (site.found, seen) == ([path], [path])


async def test_answers_of_one_turn_are_flushed_together_and_at_sixteen() -> None:
    async with hosting(FakeSite(echo)) as native:
        few = [native.whole("/", b"%d" % number) for number in range(3)]
        await turns()
        assert native.flushes == [few]
        native.flushes.clear()
        many = [native.whole("/", b"%d" % number) for number in range(40)]
        await turns()
        assert [caller for flush in native.flushes for caller in flush] == many
        assert [len(flush) for flush in native.flushes] == [16, 16, 8]


async def test_an_answer_that_no_other_can_join_leaves_at_once() -> None:
    async with hosting(FakeSite(echo)) as native:
        caller = native.whole("/")
        while not native.answers:  # noqa: ASYNC110 - turn by turn, to see the one in which it was answered
            await asyncio.sleep(0)
        assert native.flushes == [[caller]], "not only at the end of the turn"


async def test_whoever_hangs_up_before_the_work_has_begun_costs_none() -> None:
    held = Held()
    async with hosting(FakeSite(held)) as native:
        caller = native.whole("/")
        native.gone(caller)
        reference = weakref.ref(caller)
        del caller
        await turns()
        assert (held.begun, native.answers) == (0, [])
        assert forgotten(reference)


async def test_whoever_hangs_up_while_a_handler_waits_cancels_it() -> None:
    held = Held()
    async with hosting(FakeSite(held)) as native:
        caller = native.whole("/")
        await turns()
        assert held.begun == 1
        native.gone(caller)
        reference = weakref.ref(caller)
        del caller
        await turns()
        assert (held.cancelled, native.answers) == (1, [])
        assert forgotten(reference)


async def test_whoever_hangs_up_after_the_answer_is_none_of_our_business() -> None:
    async with hosting(FakeSite(echo)) as native:
        caller = native.whole("/", b"x")
        await turns()
        native.gone(caller)
        await turns()
        assert len(native.answers) == 1


async def test_nothing_is_kept_of_a_request_that_was_answered() -> None:
    async with hosting(FakeSite(echo)) as native:
        reference = weakref.ref(native.whole("/", b"x"))
        await turns()
        native.answers.clear()
        native.flushes.clear()
        assert forgotten(reference)


@pytest.mark.logs_errors
async def test_a_handler_that_raises_is_500_and_says_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(_request: Request) -> Answer:
        raise RuntimeError("a secret of the inside")

    async with hosting(FakeSite(crash)) as native:
        caller = native.whole("/crash")
        await turns()
        (part,) = native.answers
        assert part.headers is not None
        assert (part.caller, part.headers[0], part.end) == (caller, (b":status", b"500"), True)
        assert b"secret" not in part.body
        assert native.flushes == [[caller]]
    assert "a secret of the inside" in caplog.text


async def test_a_stream_is_heard_piece_by_piece_and_sends_when_it_may() -> None:
    async def talk(exchange: Exchange) -> None:
        assert exchange.headers == {b"x-who": b"tests"}
        more, headers = True, HEAD
        while more:
            piece, more = await exchange.receive()
            await exchange.send(piece.upper(), headers=headers)
            headers = []
        exchange.end([(b"x-end", b"1")])

    async with hosting(FakeSite(silence, {"/talk": talk})) as native:
        assert native.paths == [b"/talk"]
        caller = native.opened("/talk")
        native.heard(caller, b"one")
        native.heard(caller, b"two", last=True)
        await turns()
        assert native.answers == [Part(caller, HEAD, b"ONE", None, end=False, told=True)]
        assert native.flushes == [[caller]]
        assert native.consumed == [3]
        native.writable(caller)
        await turns()
        assert [part.body for part in native.answers] == [b"ONE", b"TWO"]
        native.writable(caller)
        await turns()
        assert native.answers[-1] == Part(caller, None, b"", [(b"x-end", b"1")], end=True, told=False)
        assert (native.consumed, len(native.flushes)) == ([3, 3], 3)
        native.answers.clear()
        native.flushes.clear()
        reference = weakref.ref(caller)
        del caller
        assert forgotten(reference)


async def test_a_stream_without_a_body_ends_at_once_and_empty_pieces_are_not_counted() -> None:
    heard: list[tuple[bytes, bool]] = []

    async def listen(exchange: Exchange) -> None:
        more = True
        while more:
            heard.append(await exchange.receive())
            more = heard[-1][1]
        exchange.end([], headers=HEAD)

    async with hosting(FakeSite(silence, {"/listen": listen})) as native:
        native.opened("/listen", complete=True)
        await turns()
        assert heard == [(b"", False)]
        caller = native.opened("/listen")
        native.heard(caller, b"")
        native.heard(caller, b"", last=True)
        await turns()
        assert heard[1:] == [(b"", True), (b"", False)]
        assert native.consumed == []
        assert [(part.end, part.trailers) for part in native.answers] == [(True, [])] * 2


async def test_a_stream_whose_caller_hangs_up_before_it_begins_costs_nothing() -> None:
    async with hosting(FakeSite(silence, {"/talk": never})) as native:
        caller = native.opened("/talk")
        native.heard(caller, b"x")
        native.gone(caller)
        reference = weakref.ref(caller)
        del caller
        await turns()
        assert native.answers == []
        assert forgotten(reference)


@pytest.mark.parametrize("waits", ["to hear", "to send"])
async def test_a_stream_whose_caller_hangs_up_is_cancelled_wherever_it_waits(waits: str) -> None:
    cancelled: list[str] = []

    async def talk(exchange: Exchange) -> None:
        try:
            await (exchange.receive() if waits == "to hear" else exchange.send(b"", headers=HEAD))
        except asyncio.CancelledError:
            cancelled.append(waits)
            raise

    async with hosting(FakeSite(silence, {"/talk": talk})) as native:
        caller = native.opened("/talk")
        await turns()
        native.gone(caller)
        # What was on its way when the caller hung up finds nobody.
        native.heard(caller, b"late", last=True)
        native.writable(caller)
        await turns()
        assert cancelled == [waits]
        native.answers.clear()
        native.flushes.clear()
        reference = weakref.ref(caller)
        del caller
        assert forgotten(reference)


async def test_a_stream_whose_handler_leaves_without_an_answer_is_let_go() -> None:
    async def leave(_exchange: Exchange) -> None:
        return

    async with hosting(FakeSite(silence, {"/leave": leave})) as native:
        reference = weakref.ref(native.opened("/leave"))
        await turns()
        assert native.answers == []
        assert forgotten(reference), "C resets what nobody holds"


@pytest.mark.logs_errors
async def test_a_stream_whose_handler_raises_is_logged_and_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(exchange: Exchange) -> None:
        raise RuntimeError("a secret of the inside")

    async with hosting(FakeSite(silence, {"/crash": crash})) as native:
        native.opened("/crash")
        await turns()
        assert native.answers == []
    assert "a secret of the inside" in caplog.text


async def test_the_end_is_heeded_after_what_was_told_before_it() -> None:
    async with hosting(FakeSite(echo)) as native:
        native.whole("/", b"last")
        native.ending()
        await turns()
        assert [part.body for part in native.answers] == [b"last"]
