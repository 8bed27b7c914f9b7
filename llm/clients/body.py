"""Read the body of a reply: server-sent events, or one JSON document from a server that does not stream.

The first character decides which of the two it is, because gateways often get the content type wrong. Specification:
https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

# A carriage return at the very end may be the first half of a line end.
_LINE_END = re.compile(rb"\r\n|\n|\r(?=[^\n])")
_SPACE = b" \t\r\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DONE = b"[DONE]"


class TooLarge(Exception):
    """The reply is several times larger than its token limit allows."""


@dataclass(frozen=True)
class Limits:
    """The maximum size of a reply with a given token limit: several times the normal size.

    A token has about 4 characters; the longest ones of current vocabularies repeat one character 128 times. A streamed
    token comes in an event of up to about 500 bytes, and a signature of the model's reasoning may add some hundred KB.
    """

    text_chars: int
    # The limit of a document, or of one event, which must be in memory in one piece.
    document_bytes: int
    # The whole body, of which a stream keeps only the text.
    body_bytes: int

    @classmethod
    def for_tokens(cls, tokens: int) -> "Limits":
        return cls(
            text_chars=1_000 + 50 * tokens, document_bytes=2**20 + 512 * tokens, body_bytes=2**21 + 4_096 * tokens
        )


class Mark(Enum):
    """What a body may contain instead of a JSON value."""

    MALFORMED = "not JSON"
    # OpenAI's wire format ends a stream with this.
    DONE = "done"


@dataclass(frozen=True)
class Part:
    """A JSON value of the body, or a mark."""

    value: object
    # An event of a stream, not the whole reply.
    streamed: bool


class BodyReader:
    """Turns the bytes of a body into its parts. Raises `TooLarge`; memory is bounded by `Limits.document_bytes`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total = 0
        self._start = b""
        self._document: bytearray | None = None
        self._events: _Events | None = None

    def feed(self, chunk: bytes) -> Iterator[Part]:
        self._total += len(chunk)
        if self._total > self._limits.body_bytes:
            raise TooLarge
        if self._document is None and self._events is None:
            chunk = self._begin(chunk)
        if self._document is not None:
            self._document += chunk
            if len(self._document) > self._limits.document_bytes:
                raise TooLarge
        elif self._events is not None:
            yield from self._events.feed(chunk)

    def end(self) -> Iterator[Part]:
        """Yield the parts that are complete only now that the body has ended."""
        if self._document is not None:
            yield Part(_json(bytes(self._document)), streamed=False)
        elif self._events is not None:
            yield from self._events.end()

    def _begin(self, chunk: bytes) -> bytes:
        """Decide which kind of body it is, once its first character has arrived; return the bytes from that one on.

        White space before it only keeps the connection alive.
        """
        start = (self._start + chunk).removeprefix(_BYTE_ORDER_MARK).lstrip(_SPACE)
        if not start or _BYTE_ORDER_MARK.startswith(start):
            self._start = start
            return b""
        if start[:1] in b"{[":
            self._document = bytearray()
        else:
            self._events = _Events(self._limits)
        return start


class _Events:
    """Splits a stream into events and yields the value of each event's data. Comments and other fields are ignored."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # The parts of the line that is still incomplete, and those of the event.
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._pending = 0

    def feed(self, chunk: bytes) -> Iterator[Part]:
        if b"\n" not in chunk and b"\r" not in chunk and not self._line_may_end():
            self._keep(chunk)
            return
        *lines, rest = _LINE_END.split(b"".join((*self._line, chunk)))
        self._line, self._pending = [], sum(map(len, self._data))
        for line in lines:
            if line:
                self._take(line)
            elif self._data:
                yield from self._event()
        self._keep(rest)

    def end(self) -> Iterator[Part]:
        """Yield an event that lacks its blank line: some servers omit the last one."""
        self._take(b"".join(self._line).rstrip(b"\r"))
        yield from self._event()

    def _line_may_end(self) -> bool:
        return bool(self._line) and self._line[-1].endswith(b"\r")

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._line.append(piece)
        self._pending += len(piece)
        if self._pending > self._limits.document_bytes:
            raise TooLarge

    def _take(self, line: bytes) -> None:
        if not line.startswith(b"data:"):
            return
        self._data.append(line[5:].removeprefix(b" "))
        self._pending += len(line)
        if self._pending > self._limits.document_bytes:
            raise TooLarge

    def _event(self) -> Iterator[Part]:
        data = b"\n".join(self._data).strip(_SPACE)
        self._data, self._pending = [], 0
        if data.startswith(_DONE):
            yield Part(Mark.DONE, streamed=True)
        elif data:
            yield Part(_json(data), streamed=True)


def _json(text: bytes) -> object:
    """Return the JSON value, or `Mark.MALFORMED`.

    Bytes that are not UTF-8 become U+FFFD: one damaged character is no reason to lose a text.
    """
    try:
        return json.loads(text.decode(errors="replace"))
    except (ValueError, RecursionError):
        return Mark.MALFORMED
