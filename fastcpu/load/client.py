"""A pool of connections to one server, and the requests that wait for one of them."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from time import monotonic_ns

from fastcpu.load.connection import Connection
from fastcpu.load.recorder import Recorder

_KINDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EMFILE: "local",
    errno.ENFILE: "local",
    errno.ENOBUFS: "local",
    errno.ENOMEM: "local",
    errno.EADDRNOTAVAIL: "local",
}
_SWEEPS = 20  # per timeout
_SWEEP_LEAST, _SWEEP_MOST = 0.005, 0.05  # seconds between two looks for requests to give up


class Client:
    """Sends requests, each on a connection of its own while it is under way; connections are kept and used again.

    Attributes:
        opened: connections that were made or tried.
        waits: requests that found all connections taken and could not have another.
        peak: most requests under way or waiting at a time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: tuple[str, int],
        limit: int,
        timeout: float,
        recorder: Recorder,
        finished: Callable[[bool], None],
    ) -> None:
        """`finished` is called after each request, with whether it was answered; it may submit others.

        Args:
            loop: what everything runs in.
            address: numeric IP address and port.
            limit: most connections.
            timeout: seconds from the start of a request until it is given up, give or take a twentieth.
            recorder: is told about answers and errors.
            finished: see above.
        """
        self._loop = loop
        self._address = address
        self._limit = limit
        self._timeout = timeout
        self._recorder = recorder
        self._finished = finished
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._opening = 0  # connections that are not made yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep_handle: asyncio.TimerHandle | None = None
        self._closed = False
        self._received = 0
        self._pending = 0
        self.opened = self.waits = self.peak = 0

    @property
    def pending(self) -> int:
        """Requests under way or waiting."""
        return self._pending

    @property
    def received(self) -> int:
        """Bytes of all bodies so far."""
        return self._received + sum(connection.received for connection in self._connections)

    def start(self) -> None:
        self._sweep()

    async def close(self) -> None:
        """Ends all connections. Nothing must be submitted afterwards."""
        self._closed = True
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._connections):
            self._remove(connection)
            connection.start = 0  # its request has not failed
            connection.abort()
        await asyncio.sleep(0)  # the transports close in the next turn

    def submit(self, start: int, request: bytes) -> None:
        """Sends a request that arrived at `start`, now or when there is a connection for it."""
        self._pending += 1
        self.peak = max(self.peak, self._pending)
        if self._idle:
            self._idle.pop().send(start, request)
            return
        self._waiting.append((start, request))
        self._grow()
        if self._opening < len(self._waiting):
            self.waits += 1

    def _grow(self) -> None:
        """Opens a connection for every request that waits, up to the limit."""
        while self._opening < len(self._waiting) and len(self._connections) + self._opening < self._limit:
            self._opening += 1
            self.opened += 1
            task = self._loop.create_task(self._open())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self) -> None:
        connection = Connection(self)
        try:
            made = self._loop.create_connection(lambda: connection, *self._address)
            await asyncio.wait_for(made, self._timeout)
        except (asyncio.TimeoutError, TimeoutError):
            kind = "timeout"
        except OSError as error:
            kind = _KINDS.get(error.errno or 0, "unreachable")
        else:
            return
        if connection.made:
            return  # what became of it, it has said itself
        self._opening -= 1
        if self._waiting:
            self._fail_waiting(kind)
        self._grow()

    def _fail_waiting(self, kind: str) -> None:
        start, _ = self._waiting.popleft()
        self._recorder.failed(start, monotonic_ns(), kind)
        self._done(False)

    def _done(self, answered: bool) -> None:
        self._pending -= 1
        self._finished(answered)

    def _use(self, connection: Connection) -> None:
        """Gives a free connection to the request that waits longest."""
        if self._waiting:
            connection.send(*self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _remove(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)
            self._received += connection.received
            if connection in self._idle:
                self._idle.remove(connection)

    def _sweep(self) -> None:
        """Gives up what has been under way, or has waited, for too long."""
        oldest = monotonic_ns() - int(self._timeout * 1e9)
        for connection in [each for each in self._connections if 0 < each.start < oldest]:
            if 0 < connection.start < oldest:
                connection.fail("timeout")
        while self._waiting and self._waiting[0][0] < oldest:
            self._fail_waiting("timeout")
        pause = min(max(self._timeout / _SWEEPS, _SWEEP_LEAST), _SWEEP_MOST)
        self._sweep_handle = self._loop.call_later(pause, self._sweep)

    # What connections call.

    def connected(self, connection: Connection) -> None:
        self._opening -= 1
        self._connections.add(connection)
        if self._closed:
            self._remove(connection)
            connection.abort()
        else:
            self._use(connection)

    def answered(self, connection: Connection, start: int, end: int, reusable: bool) -> None:
        status = connection.status
        self._recorder.answered(start, end, status)
        if status >= 300 and status not in self._recorder.excerpts:
            self._recorder.excerpts[status] = connection.excerpt
        if reusable:
            self._use(connection)
        else:
            self._remove(connection)
            self._grow()
        self._done(True)

    def failed(self, connection: Connection, start: int, kind: str) -> None:
        self._remove(connection)
        self._recorder.failed(start, monotonic_ns(), kind)
        self._grow()
        self._done(False)

    def dropped(self, connection: Connection) -> None:
        self._remove(connection)
        if not self._closed:
            self._grow()
