"""HTTP/1.1 responses as any server or proxy may frame them: by a Content-Length, or in chunks (RFC 9112, section 7.1).

Servers of the mesh's own always state a length, and the parser for them (`http_wire`) knows nothing else: it is on the
path of every batch.
"""

from services.batcher.adapters.http_wire import GarbledError, Response, read_head

_END = b"\r\n\r\n"
_HEAD_BYTES_MAX = 64 * 1024
_SIZE_LINE_BYTES_MAX = 1024
_SIZE_DIGITS_MAX = 8
_HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")


class AnyFramingParser:
    """Reads one response after another off one connection."""

    def __init__(self, *, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self._pending = bytearray()
        self._head: _AnyHead | None = None
        self._body = bytearray()
        """What has come of a body in chunks."""
        self._at = 0
        """Where the next chunk begins in what is pending."""

    @property
    def untouched(self) -> bool:
        """Whether nothing of the next response has come."""
        return self._head is None and not self._pending

    def feed(self, data: bytes) -> Response | None:
        """The response that is complete with `data`; None while it is not. Raises GarbledError."""
        self._pending += data
        if self._head is None:
            self._head = self._next_head()
            if self._head is None:
                return None
        head = self._head
        body = self._chunks() if head.chunked else self._counted(head.length)
        if body is None:
            return None
        if self._pending:
            raise GarbledError(f"{len(self._pending)} bytes follow a response that nobody asked for")
        if head.header_length is not None and head.header_length > len(body):
            raise GarbledError(f"the JSON part has {head.header_length} bytes of a body of {len(body)}")
        self._head = None
        return Response(head.status, head.header_length, memoryview(body), head.keep_alive)

    def _next_head(self) -> "_AnyHead | None":
        while (end := self._pending.find(_END)) >= 0:
            head = _AnyHead(bytes(self._pending[:end]))
            del self._pending[: end + len(_END)]
            # After an interim response (100 Continue) the real one follows.
            if head.status >= 200:
                if head.length > self._body_bytes_max:
                    raise GarbledError(f"the body has {head.length} bytes; {self._body_bytes_max} are allowed")
                return head
        if len(self._pending) > _HEAD_BYTES_MAX:
            raise GarbledError(f"the head of a response is longer than {_HEAD_BYTES_MAX} bytes")
        return None

    def _counted(self, length: int) -> bytes | None:
        if len(self._pending) < length:
            return None
        body = bytes(self._pending[:length])
        del self._pending[:length]
        return body

    def _chunks(self) -> bytes | None:
        """The whole body, once its last chunk and the trailers have come."""
        pending = self._pending
        while (line_end := pending.find(b"\r\n", self._at)) >= 0:
            size = _chunk_size(bytes(pending[self._at : line_end]))
            start, end = line_end + 2, line_end + 2 + size
            if size == 0:
                # Trailers, or none: an empty line ends them.
                last = pending.find(_END, line_end)
                if last < 0:
                    return None
                del pending[: last + len(_END)]
                body, self._body, self._at = bytes(self._body), bytearray(), 0
                return body
            if len(self._body) + size > self._body_bytes_max:
                raise GarbledError(f"the body has more than {self._body_bytes_max} bytes, which are allowed")
            if len(pending) < end + 2:
                return None
            if pending[end : end + 2] != b"\r\n":
                raise GarbledError("a chunk is longer than it says")
            self._body += pending[start:end]
            self._at = end + 2
            if self._at > _HEAD_BYTES_MAX:
                del pending[: self._at]
                self._at = 0
        if len(pending) - self._at > _SIZE_LINE_BYTES_MAX:
            raise GarbledError("a chunk does not say its size")
        return None


class _AnyHead:
    """Status line and headers, with either framing."""

    def __init__(self, raw: bytes) -> None:
        first, *lines = raw.split(b"\r\n")
        codings = [line.partition(b":")[2].strip().lower() for line in lines if _named(line, b"transfer-encoding")]
        self.chunked = codings == [b"chunked"]
        if self.chunked:
            # A length beside it means nothing (RFC 9112, section 6.3).
            kept = [one for one in lines if not _named(one, b"transfer-encoding", b"content-length")]
            raw = b"\r\n".join([first, *kept, b"content-length: 0"])
        head = read_head(raw)
        self.status = head.status
        self.length = head.length
        self.header_length = head.header_length
        self.keep_alive = head.keep_alive
        if head.status < 200 or head.status in (204, 304):
            self.chunked = False


def _named(line: bytes, *names: bytes) -> bool:
    return line.partition(b":")[0].lower() in names


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not 0 < len(digits) <= _SIZE_DIGITS_MAX or not _HEXADECIMAL.issuperset(digits):
        raise GarbledError(f"{line[:40]!r} is no size of a chunk")
    return int(digits, 16)
