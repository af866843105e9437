"""Plain sockets to a server: for what HTTP libraries would not send, and to see what comes back byte by byte."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from tests.serve.live import Answer, LiveServer

_PATIENCE = 60.0  # seconds; a busy machine is slow


def head(method: str, path: str, headers: Mapping[str, Any] | None = None) -> bytes:
    """A request line with headers."""
    lines = [f"{method} {path} HTTP/1.1", "host: test", *(f"{k}: {v}" for k, v in (headers or {}).items()), "", ""]
    return "\r\n".join(lines).encode()


def request(method: str, path: str, body: Any = None, headers: Mapping[str, Any] | None = None) -> bytes:
    """A whole request; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    given = {"content-length": len(content)} if content else {}
    return head(method, path, {**given, **(headers or {})}) + content


class Wire:
    """A connection, until the end of the block."""

    def __init__(self, server: LiveServer, timeout: float = _PATIENCE) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout)
        self._rest = b""

    def __enter__(self) -> Wire:  # noqa: PYI034  (Self is new in Python 3.11)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def flood(self, data: bytes, times: int) -> bool:
        """Sends `data` again and again; whether that ended, with an error or because nobody reads any more."""
        try:
            for _ in range(times):
                self.send(data)
        except OSError:
            return True
        return False

    def until(self, mark: bytes) -> bytes:
        """What comes up to and with `mark`. ConnectionError if the connection ends before."""
        while mark not in self._rest:
            more = self.socket.recv(1 << 16)
            if not more:
                raise ConnectionError(f"the connection ended after {self._rest!r:.200}")
            self._rest += more
        found, _, self._rest = self._rest.partition(mark)
        return found + mark

    def answer(self, body: bool = True) -> Answer:
        """The next answer; without a `body` where the request was HEAD."""
        start, *lines = self.until(b"\r\n\r\n")[:-4].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        size = int(headers.get("content-length", 0)) if body else 0
        while len(self._rest) < size:
            more = self.socket.recv(1 << 16)
            if not more:
                raise ConnectionError("the connection ended within a body")
            self._rest += more
        content, self._rest = self._rest[:size], self._rest[size:]
        return Answer(int(start.split()[1]), headers, content)

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, Any] | None = None) -> Answer:
        """Sends a request and waits for its answer."""
        self.send(request(method, path, body, headers))
        return self.answer(method != "HEAD")

    def ended(self) -> bool:
        """Whether the server ends the connection, with nothing more to read."""
        try:
            return not self._rest and not self.socket.recv(1 << 16)
        except ConnectionError:
            return True


def until(condition: Callable[[], bool], what: str = "", seconds: float = _PATIENCE) -> float:
    """Waits for a condition and gives the seconds that it took; AssertionError if it does not come to pass."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, what or "it did not come to pass"
        time.sleep(0.005)
    return time.monotonic() - began
