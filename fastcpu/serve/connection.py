"""HTTP connections, and what clients may do with them: bounded heads, bodies and times."""

from __future__ import annotations

import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

_MOST_HEAD = 384 * 1024
"""Bytes of a request line with its headers, as far as they come in several pieces; one piece has up to 256 KiB."""
_UPGRADE = re.compile(rb"(?im)^upgrade:")
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(HttpToolsProtocol):
    """A connection that ends when a request is larger than any that could be answered.

    Attributes:
        most: bytes of a whole request as it is sent; what is refused for its size is not read for longer than that.
    """

    most = 1 << 26

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = False
        self._size = 0
        self._running: RequestResponseCycle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        # The base class only tells the request that came last, which may wait for the answer to another one.
        for cycle in (self._running, *(cycle for cycle, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        if (b"pgrade" in data or b"PGRADE" in data) and self._begins():
            # Java offers HTTP/2 with every first request; the parser would take its body for something else.
            found, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"x-upgrade:", found) + end + rest
        super().data_received(data)
        self._size += len(data)
        if self._size > (_MOST_HEAD if self._in_head else self.most) and not self.transport.is_closing():
            if self._in_head:
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _begins(self) -> bool:
        """Whether what comes next is the beginning of a request."""
        cycle: RequestResponseCycle | None = self.cycle
        return not self._in_head and (cycle is None or not cycle.more_body)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # what follows a body in chunks is not kept
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def waits_for(self) -> object:
        """What the client must do next, None if it is not its turn; equal while it does nothing about it.

        A connection on which a request was answered waits without limit here: uvicorn ends it.
        """
        unsent = self.transport.get_write_buffer_size()
        if unsent:
            return "read", unsent
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            return ("head", cycle) if self.timeout_keep_alive_task is None else None
        if cycle.more_body and not self.flow.read_paused:
            return "body", cycle
        return None


class Guard:
    """Ends connections of clients that keep the server waiting.

    Args:
        seconds: how long one may take to send a head, to send a body, or to read a part of an answer.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._since: dict[Connection, tuple[object, float]] = {}

    def look(self, connections: set[Any], now: float) -> int:
        """Ends those that have waited for too long, at the time `now`, and says how many; called again and again."""
        since: dict[Connection, tuple[object, float]] = {}
        ended = 0
        for connection in list(connections):
            what = connection.waits_for()
            if what is None:
                continue
            before = self._since.get(connection)
            if before is None or before[0] != what:
                since[connection] = what, now
            elif now - before[1] <= self.seconds:
                since[connection] = before
            else:
                connection.transport.abort()
                ended += 1
        self._since = since
        return ended
