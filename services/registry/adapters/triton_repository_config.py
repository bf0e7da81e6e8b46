"""The configuration of a model of Triton (config.pbtxt), in protobuf's text format.

Only what this format has is read: names, numbers, words, texts, messages and lists, within bounds.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from services.common.errors import MeshError, Reason

_TOKEN = re.compile(
    r"""(?P<space>[\s,;]+|\#[^\n]*)|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<mark>[{}\[\]:<>])"""
    r"""|(?P<word>[^\s,;#"'{}\[\]:<>]+)"""
)
_ESCAPE = re.compile(r"\\(.)")
_DEPTH_MAX = 32
_TOKENS_MAX = 200_000
Message = Mapping[str, Sequence[object]]
"""Every field with all its values: texts, words, numbers as texts, and messages."""


def parse_config(data: bytes) -> Message:
    """The fields of a configuration. Raises ARTIFACT_INVALID."""
    tokens = _Tokens(data.decode(errors="replace"))
    return _message(tokens, "", 0)


def text_of(message: Message, name: str) -> str:
    """A field's last value where it is no message; "" where it has none."""
    values = message.get(name, ())
    return values[-1] if values and isinstance(values[-1], str) else ""


def messages_of(message: Message, name: str) -> Sequence[Message]:
    """All messages of a field."""
    return [value for value in message.get(name, ()) if isinstance(value, Mapping)]


class _Tokens:
    def __init__(self, text: str) -> None:
        self._tokens = self._of(text)
        self.current: tuple[str, str] | None = next(self._tokens, None)

    def take(self) -> tuple[str, str]:
        """The kind and the text of the next token, taken."""
        if self.current is None:
            raise _broken("it ends too early")
        taken, self.current = self.current, next(self._tokens, None)
        return taken

    def is_mark(self, *marks: str) -> bool:
        """Whether the next token is one of these marks."""
        return self.current is not None and self.current[0] == "mark" and self.current[1] in marks

    def _of(self, text: str) -> Iterator[tuple[str, str]]:
        at, count = 0, 0
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise _broken(f"{text[at : at + 20]!r} is no part of one")
            at = found.end()
            kind = found.lastgroup or "space"
            if kind != "space":
                count += 1
                if count > _TOKENS_MAX:
                    raise _broken(f"it has more than {_TOKENS_MAX} parts")
                yield kind, found.group()


def _message(tokens: _Tokens, end: str, depth: int) -> Message:
    if depth > _DEPTH_MAX:
        raise _broken(f"it nests more than {_DEPTH_MAX} levels")
    found: dict[str, list[object]] = {}
    while not (end and tokens.is_mark(end)):
        if tokens.current is None and not end:
            return found
        kind, name = tokens.take()
        if kind != "word":
            raise _broken(f"{name[:20]!r} stands where a field's name should")
        if tokens.is_mark(":"):
            tokens.take()
        found.setdefault(name, []).extend(_values(tokens, depth))
    tokens.take()
    return found


def _values(tokens: _Tokens, depth: int) -> Sequence[object]:
    if not tokens.is_mark("["):
        return [_value(tokens, depth)]
    tokens.take()
    found: list[object] = []
    while not tokens.is_mark("]"):
        found.append(_value(tokens, depth))
    tokens.take()
    return found


def _value(tokens: _Tokens, depth: int) -> object:
    kind, text = tokens.take()
    if kind == "mark" and text in ("{", "<"):
        return _message(tokens, "}" if text == "{" else ">", depth + 1)
    if kind == "mark":
        raise _broken(f"{text!r} stands where a value should")
    if kind == "word":
        return text
    parts = [_ESCAPE.sub(r"\1", text[1:-1])]
    # Texts that follow each other are one.
    while tokens.current is not None and tokens.current[0] == "text":
        parts.append(_ESCAPE.sub(r"\1", tokens.take()[1][1:-1]))
    return "".join(parts)


def _broken(what: str) -> MeshError:
    return MeshError(Reason.ARTIFACT_INVALID, f"config.pbtxt is no model configuration: {what}")
