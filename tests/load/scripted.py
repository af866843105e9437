"""An HTTP server whose answers are written in the test."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any


@dataclass
class Exchange:
    """A request, and where its answer goes.

    Attributes:
        number: of the request, from 0 in the order in which the server read them.
        path, headers, body: of the request; names of headers are in lower case.
        writer: takes the answer.
    """

    number: int
    path: str
    headers: dict[str, str]
    body: Any
    writer: asyncio.StreamWriter

    def answer(self, status: int = 200, body: str = "{}", headers: str = "") -> None:
        head = f"HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
        self.writer.write((head + body).encode())

    def raw(self, text: str) -> None:
        self.writer.write(text.encode())

    def reset(self) -> None:
        """Closes the connection with RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


async def simple(exchange: Exchange) -> None:
    exchange.answer()


class Server:
    """Answers by a script.

    Attributes:
        requests: what was asked, in order; the writers are of no use any more.
        connections: that were made, with the one that looks whether the server is there.
        most: largest number of requests under way at a time.
    """

    def __init__(self, script: Script, reads: bool = True) -> None:
        """Unless it `reads`, it refuses a request as soon as it has its head."""
        self._script = script
        self._reads = reads
        self._under_way = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[Exchange] = []
        self.connections = 0
        self.most = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
                while True:
                    await self._exchange(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        if not self._reads:
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await asyncio.sleep(60)
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers["content-length"]))
        exchange = Exchange(len(self.requests), head[0].split(" ")[1], headers, json.loads(body), writer)
        assert head[0].startswith("POST ")
        self.requests.append(exchange)
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            await self._script(exchange)
            await writer.drain()
        finally:
            self._under_way -= 1
        if writer.is_closing():
            raise ConnectionResetError

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.sleep(0)


@contextmanager
def in_thread(script: Script) -> Iterator[Server]:
    """A server that runs beside the test."""
    server, ready, loop = Server(script), threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with server.running():
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(30)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
