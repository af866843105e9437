"""One HTTP/1.1 connection with at most one request under way."""

from __future__ import annotations

import asyncio
import os
from time import monotonic_ns
from typing import Protocol, cast

import httptools

_EXCERPT = 400  # bytes kept of the body of an answer that is no success


class Owner(Protocol):
    """What is told about a connection."""

    def connected(self, connection: Connection) -> None:
        """It can be used."""

    def answered(self, connection: Connection, start: int, end: int, reusable: bool) -> None:
        """The answer to its request is complete; `status` and `excerpt` are those of it."""

    def failed(self, connection: Connection, start: int, kind: str) -> None:
        """Its request came to nothing, and so did the connection."""

    def dropped(self, connection: Connection) -> None:
        """It ended while no request was under way."""


class Connection(asyncio.Protocol):
    """A connection, made by the event loop.

    Attributes:
        made: whether there is, or was, such a connection.
        start: when the request that is under way arrived, in nanoseconds of `time.monotonic_ns`; 0 without one.
        status: HTTP status of the last answer.
        received: bytes of bodies so far.
    """

    __slots__ = (
        "_buffered",
        "_complete",
        "_delimited",
        "_descriptor",
        "_excerpt",
        "_feed",
        "_headers",
        "_owner",
        "_parser",
        "_reusable",
        "_transport",
        "made",
        "received",
        "start",
        "status",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._parser = httptools.HttpResponseParser(self)
        self._feed = self._parser.feed_data
        self._transport: asyncio.Transport
        self._descriptor = -1
        self._complete = self._headers = self._delimited = self._reusable = self._buffered = False
        self._excerpt = b""
        self.made = False
        self.start = 0
        self.status = 0
        self.received = 0

    @property
    def excerpt(self) -> str:
        """The beginning of the last answer's body if that was no success."""
        return self._excerpt.decode(errors="replace")

    def send(self, start: int, request: bytes) -> None:
        """Starts a request that arrived at `start`. None may be under way.

        It is written here and not by the event loop, which may do so only after it has read from all other connections.
        """
        self.start = start
        self._complete = self._headers = self._delimited = False
        try:
            written = os.write(self._descriptor, request)
        except BlockingIOError:
            written = 0
        except OSError:
            self.fail("reset")
            return
        self._buffered = written < len(request)
        if self._buffered:
            self._transport.write(request[written:])

    def fail(self, kind: str) -> None:
        """Gives up the request that is under way, and the connection."""
        start, self.start = self.start, 0
        self.abort()
        self._owner.failed(self, start, kind)

    def abort(self) -> None:
        """Closes the connection at once."""
        self._descriptor = -1
        self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are of no such class
        self._descriptor = self._transport.get_extra_info("socket").fileno()
        self.made = True
        self._owner.connected(self)

    def data_received(self, data: bytes) -> None:
        now = monotonic_ns()
        if not self.start:  # an answer that nobody asked for
            self.abort()
            self._owner.dropped(self)
            return
        try:
            self._feed(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.fail("malformed")
            return
        if self._complete:
            self._finish(now, self._reusable)

    def eof_received(self) -> None:
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        self._descriptor = -1
        if not self.start:
            self._owner.dropped(self)
        elif error is None and self._headers and not self._delimited:  # the end of such an answer is that of the stream
            self._finish(monotonic_ns(), False)
        else:
            self.fail("closed" if error is None else "reset")

    def _finish(self, now: int, reusable: bool) -> None:
        start, self.start = self.start, 0
        if self._buffered and self._transport.get_write_buffer_size():
            reusable = False  # the answer came before the request had been written
        if not reusable:
            self.abort()
        self._owner.answered(self, start, now, reusable)

    # What the parser calls.

    def on_header(self, name: bytes, _value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._delimited = True

    def on_headers_complete(self) -> None:
        if self._complete:  # a second answer to one request
            raise ValueError
        self.status = self._parser.get_status_code()
        self._headers = self.status >= 200
        self._excerpt = b""

    def on_body(self, body: bytes) -> None:
        self.received += len(body)
        if self.status >= 300 and len(self._excerpt) < _EXCERPT:
            self._excerpt = (self._excerpt + body)[:_EXCERPT]

    def on_message_complete(self) -> None:
        self._complete = self.status >= 200
        self._reusable = self._parser.should_keep_alive()  # which the parser forgets when it goes on
