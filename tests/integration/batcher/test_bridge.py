"""The bridge in a real Envoy: bodies of all sizes in all pieces, hang-ups everywhere, over both protocols.

The site is the tests' own and does what its paths say (`tests.support.bridge_site`).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.support.bridge_process import Hosted, hosted
from tests.support.raw_http2 import connected
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY_MAX = 12 * 1024 * 1024 + 5
"""As `native/bridge.h` has it."""
CANCELLED = 8
CALLERS = 240


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hosted]:
    """One for all tests that leave it idle."""
    async with hosted(tmp_path_factory.mktemp("site")) as here:
        yield here


def body_of(size: int) -> bytes:
    """No two places alike within a page and more, so that nothing can change places unseen."""
    return random.Random(size).randbytes(size)


def pieces(body: bytes, count: int) -> Iterator[bytes]:
    """The body cut into about so many."""
    step = max(1, len(body) // count)
    return (body[at : at + step] for at in range(0, len(body), step))


@pytest.mark.parametrize("size", [0, 1, 16384, 1 << 20, BODY_MAX])
async def test_a_body_in_one_goes_and_comes_over_both_protocols(site: Hosted, size: int) -> None:
    body = body_of(size)
    async with site.client() as client:
        answer = await client.post("/echo", content=body)
    assert (answer.status_code, answer.content == body) == (200, True)
    async with connected(site.address) as http2:
        stream = await http2.begin("/echo", end=not body)
        if body:
            await http2.send(stream, body, end=True)
        reply = await http2.wait(stream)
    assert (reply.status, reply.body == body) == (200, True)


@pytest.mark.parametrize(("size", "count"), [(3000, 3000), (200_000, 4000), (BODY_MAX, 2500)])
async def test_a_body_in_thousands_of_pieces_arrives_as_it_was(site: Hosted, size: int, count: int) -> None:
    body = body_of(size)

    async def chunks() -> AsyncIterator[bytes]:
        for piece in pieces(body, count):
            yield piece

    async with site.client() as client:
        answer = await client.post("/echo", content=chunks())
    assert (answer.status_code, answer.content == body) == (200, True)
    async with connected(site.address) as http2:
        stream = await http2.begin("/echo")
        await http2.send(stream, body, end=True, piece=max(1, size // count))
        reply = await http2.wait(stream)
    assert (reply.status, reply.body == body) == (200, True)


async def test_one_byte_over_the_bound_is_told_and_cut_off(site: Hosted) -> None:
    body = bytes(BODY_MAX + 1)
    async with site.client() as client:
        answer = await client.post("/told", content=body)
    told = answer.json()
    assert (answer.status_code, told["complete"]) == (200, False)
    assert told["bytes"] <= BODY_MAX
    async with connected(site.address) as http2:
        stream = await http2.begin("/echo")
        await http2.send(stream, body, end=True)
        assert (await http2.wait(stream)).status == 413
    await site.waits_for()


@pytest.mark.parametrize("body", [b"", b"before the trailers"])
async def test_trailers_end_a_request(site: Hosted, body: bytes) -> None:
    async with connected(site.address) as http2:
        for path in ("/echo", "/stream/echo"):
            stream = await http2.begin(path)
            if body:
                await http2.send(stream, body)
            await http2.trailers(stream, {"x-late": "1"})
            reply = await http2.wait(stream)
            assert (reply.status, bytes(reply.body), reply.ended) == (200, body, True)


async def test_headers_arrive_with_odd_bytes_many_of_them_and_the_last_of_two(site: Hosted) -> None:
    many = {f"x-{number}": str(number) for number in range(80)}
    async with connected(site.address) as http2:
        stream = await http2.begin("/told", headers={"x-odd": "\xe9\xff", "x-empty": "", **many}, end=True)
        http2_headers = (await http2.wait(stream)).body
    async with site.client() as client:
        told = (await client.get("/told", headers=[("x-twice", "1"), ("x-twice", "2")])).json()
    assert told["headers"]["x-twice"] == "2"
    assert all(f'"{name}": "{value}"'.encode() in http2_headers for name, value in many.items())
    assert b'"x-odd": "\\u00e9\\u00ff"' in http2_headers
    assert b'"x-empty": ""' in http2_headers


async def test_a_request_without_a_body_tells_where_its_caller_is(site: Hosted) -> None:
    async with site.client() as client:
        get = (await client.get("/told?who=me")).json()
        post = (await client.post("/told", content=b"x")).json()
    assert (get["method"], get["path"]) == ("GET", "/told")
    host, _, port = get["headers"][":source-address"].rpartition(":")
    assert (host, port.isdigit()) == ("127.0.0.1", True)
    assert ":source-address" not in post["headers"]


async def test_a_request_for_a_tunnel_which_has_no_path_is_answered_like_any_other(site: Hosted) -> None:
    async with connected(site.address) as http2:
        reply = await http2.wait(await http2.begin("", method="CONNECT", end=True))
        assert b'"path": ""' in reply.body
        assert (await http2.wait(await http2.begin("/ready", end=True))).status == 200


async def test_head_gets_headers_and_no_body_that_the_next_answer_would_begin_with(site: Hosted) -> None:
    reader, writer = await asyncio.open_connection(*site.address.split(":"))
    writer.write(b"HEAD /ready HTTP/1.1\r\nhost: x\r\n\r\nGET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    async with asyncio.timeout(10):
        first, second = (await reader.read()).split(b"HTTP/1.1 200 OK")[1:]
    writer.close()
    await writer.wait_closed()
    assert (first.partition(b"\r\n\r\n")[2], b"ok" in second) == (b"", True)
    async with connected(site.address) as http2:
        for path in ("/ready", "/stream/echo"):
            reply = await http2.wait(await http2.begin(path, method="HEAD", end=True))
            assert (reply.status, bytes(reply.body), reply.ended) == (200, b"", True)
    await site.waits_for()


@pytest.mark.parametrize("piece", [1, 16384])
@pytest.mark.parametrize("last", ["with the last bytes", "by itself", "with trailers", "much later"])
async def test_a_stream_that_was_held_back_loses_nothing_of_its_end(site: Hosted, piece: int, last: str) -> None:
    """Its caller has sent more than anybody on the way takes, of which the site reads nothing at first."""
    body = body_of(60_000 if piece == 1 else 3 << 20)
    async with connected(site.address) as http2:
        stream = await http2.begin("/stream/held")
        sending = asyncio.create_task(http2.send(stream, body, end=last == "with the last bytes", piece=piece))
        await site.waits_for(waiting=1)
        await asyncio.wait({sending}, timeout=0.2)
        assert piece == 1 or not sending.done()
        await site.post("/open")
        await sending
        if last == "by itself":
            await http2.send(stream, b"", end=True)
        elif last == "with trailers":
            await http2.trailers(stream, {"x-late": "1"})
        elif last == "much later":
            await site.waits_for(waiting=0)
            await http2.send(stream, b"end", end=True)
            body += b"end"
        reply = await http2.wait(stream)
    await site.post("/close")
    assert (reply.status, bytes(reply.body)) == (200, b'{"bytes": %d, "sum": %d}' % (len(body), sum(body)))


async def test_who_does_not_read_holds_a_stream_back_and_newcomers_on_its_connection_too(site: Hosted) -> None:
    async with connected(site.address) as http2:
        stream = await http2.begin("/stream/flood", end=True)
        assert await http2.headed(stream) == 200
        http2.stop_reading()
        before = (await site.kept())["flooded"]

        async def still() -> bool:
            nonlocal before
            last, before = before, (await site.kept())["flooded"]
            return before == last

        await eventually(still, every_s=0.3, what="the flood stands still")
        # Begun where the connection is too full already: it must learn that it may go on.
        other = await http2.begin("/stream/echo")
        await http2.send(other, b"other", end=True)
        http2.read_on()
        await eventually(lambda: http2.replies[stream].body, what="the flood goes on")
        assert (await http2.wait(other)).body == b"other"
        await eventually(lambda: len(http2.replies[stream].body) > before, what="the flood goes beyond where it stood")
        await http2.hang_up(stream)
    await site.waits_for()


async def test_an_answer_that_does_not_wait_for_the_body_ends_the_request(site: Hosted) -> None:
    async with connected(site.address) as http2:
        stream = await http2.begin("/stream/early")
        reply = await http2.wait(stream)
        assert (reply.status, reply.ended, http2.lost) == (200, True, False)
        await http2.send(stream, bytes(100_000))
        assert (await http2.wait(await http2.begin("/ready", end=True))).status == 200
    reader, writer = await asyncio.open_connection(*site.address.split(":"))
    writer.write(b"POST /stream/early HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    await site.waits_for()


async def test_a_handler_that_fails_says_nothing_of_the_inside(site: Hosted) -> None:
    async with connected(site.address) as http2:
        reply = await http2.wait(await http2.begin("/crash", end=True))
        assert (reply.status, b"secret" in reply.body) == (500, False)
        reply = await http2.wait(await http2.begin("/stream/crash", end=True))
        assert (bytes(reply.body), reply.ended, reply.reset is not None) == (b"begun", False, True)
    await site.waits_for()
    assert site.part.log_path.read_text().count("a secret of the inside") >= 2


async def test_a_stream_that_is_forgotten_without_an_answer_is_reset(site: Hosted) -> None:
    async with connected(site.address) as http2:
        for headers in ({}, {"x-begin": "1"}):
            reply = await http2.wait(await http2.begin("/stream/forget", headers=headers))
            assert (reply.ended, reply.reset is not None, http2.lost) == (False, True, False)
    await site.waits_for()


@pytest.mark.parametrize("path", ["/stream/echo", "/echo", "/gate"])
async def test_one_of_many_on_a_connection_that_hangs_up_disturbs_no_other(site: Hosted, path: str) -> None:
    async with connected(site.address) as http2:
        streams = [await http2.begin(path) for _ in range(40)]
        for stream in streams:
            await http2.send(stream, b"%d" % stream)
        for stream in streams[::2]:
            await http2.hang_up(stream)
        for stream in streams[1::2]:
            await http2.send(stream, b"", end=True)
        await site.post("/open")
        for stream in streams[1::2]:
            reply = await http2.wait(stream)
            assert (reply.status, bytes(reply.body)) == (200, b"%d" % stream)
    await site.post("/close")
    await site.waits_for()


async def one_of_many(site: Hosted, seed: int) -> None:
    """Hangs up somewhere between its first byte and its answer's last, or not at all."""
    luck = random.Random(seed)
    path = luck.choice(["/echo", "/wait", "/gate", "/stream/echo", "/stream/held", "/stream/flood", "/stream/forget"])
    async with connected(site.address) as http2:
        for _ in range(luck.randint(1, 4)):
            stream = await http2.begin(path)
            if luck.random() < 0.2:
                continue
            await http2.send(stream, bytes(luck.choice([1, 1000, 30_000])), end=luck.random() < 0.7)
            if luck.random() < 0.3:
                await http2.hang_up(stream)
            elif luck.random() < 0.3:
                await asyncio.wait({asyncio.ensure_future(http2.headed(stream))}, timeout=luck.random() / 10)


async def test_hang_ups_in_every_phase_by_hundreds_leave_nothing_behind(site: Hosted) -> None:
    blocks, allocated = [], []
    for turn in range(4):
        await asyncio.gather(*(one_of_many(site, turn * CALLERS + number) for number in range(CALLERS)))
        async with site.client() as client:
            assert (await client.post("/echo", content=b"newcomer")).content == b"newcomer"
        blocks.append((await site.waits_for())["blocks"])
        allocated.append(await site.allocated())
    # Blocks of Python's memory: the first turn fills caches, later ones must add nothing for their thousand streams.
    assert blocks[-1] - blocks[1] < CALLERS, blocks
    # And of Envoy's, where the bridge's own lies: a lost body of each would be megabytes.
    assert allocated[-1] - allocated[1] < 500_000, allocated
