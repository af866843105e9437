"""The process: sockets, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from fastcpu.errors import FastcpuError, InputError
from fastcpu.serve.app import application
from fastcpu.serve.config import Config
from fastcpu.serve.connection import Connection, Guard
from fastcpu.serve.logs import Records
from fastcpu.serve.serving import Serving

_GRACE = 0.3
"""Seconds from SIGTERM to the end of accepting: answers say `Connection: close` meanwhile, so that clients that keep
connections open leave by themselves."""
_ARRIVED = 0.05
"""Seconds from the end of accepting to the end of idle connections: what was sent on them is read meanwhile."""
_MOST_FILES = 1 << 16


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, and then answers what it has accepted.

    Args:
        serving: what answers.
        reload: gives the configuration again, for SIGHUP; None if there is none to read.
    """

    def __init__(self, serving: Serving, reload: Callable[[], Config] | None) -> None:
        config = serving.config

        class Bounded(Connection):
            most = 4 * config.max_body_bytes + (1 << 20)

        super().__init__(
            uvicorn.Config(
                application(serving),
                loop="uvloop",
                http=Bounded,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
            )
        )
        self._serving = serving
        self._reload = reload
        self._guard = Guard(config.read_seconds)
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = math.inf  # of draining, on time.monotonic

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes the signals of the process, which uvicorn would answer with an end at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._spawn, self._apply)
        yield

    def _spawn(self, function: Callable[[], Any]) -> None:
        task = asyncio.get_running_loop().create_task(function())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        serving = self._serving
        await serving.start()
        if serving.draining:
            self.should_exit = True
            await serving.stop()
            return
        # What was made so far stays: looking through it again and again would take time from requests.
        gc.collect()
        gc.freeze()
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        if serving.config.is_open:
            serving.log.event("warning", f"no API keys: everyone who reaches {host} may ask")
        serving.log.event("info", "listening", host=host, port=port, pid=os.getpid(), models=serving.repository.names())

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            ended = self._guard.look(self.server_state.connections, time.monotonic())
            if ended:
                self._serving.log.event("warning", "clients were too slow", connections=ended)
        return await super().on_tick(counter)

    def _stop(self, number: int) -> None:
        serving = self._serving
        if serving.draining:  # asked a second time
            serving.log.event("warning", "stopped at once", unanswered=serving.in_flight)
            os._exit(128 + number)
        serving.draining = True
        self._end = time.monotonic() + serving.config.drain_seconds
        serving.log.event("info", "draining", requests=serving.in_flight)
        if self.started:
            self._spawn(self._drain)

    async def _drain(self) -> None:
        await asyncio.sleep(_GRACE)
        await self._serving.idle(self._end - time.monotonic())
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await asyncio.sleep(_ARRIVED)
        self.config.timeout_graceful_shutdown = max(1, math.ceil(self._end - time.monotonic()))
        await super().shutdown(sockets)
        await self._serving.stop()
        self._serving.log.event("info", "stopped")

    async def _apply(self) -> None:
        log, repository = self._serving.log, self._serving.repository
        if not self.started:
            return
        if self._reload is None:
            await repository.refresh()
            return
        try:
            config = self._reload()
            waiting = self._serving.reconfigure(config)
        except FastcpuError as error:
            log.event("error", "the configuration cannot be read; nothing changed", reason=str(error))
            return
        failed = await repository.apply(config)
        log.event("info", "the configuration was read again", failed=failed, needs_restart=waiting)


def serve(config: Config, reload: Callable[[], Config] | None = None) -> None:
    """Serves until a signal ends it.

    Raises:
        FastcpuError: a model cannot be served, or the address is not free; the message says why.
    """
    # The tokenizers would use all CPUs for a batch of texts, beside the threads that run the models.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    sockets = _bound(config.host, config.port)
    _allow_files()
    serving = Serving(config)
    Records(serving.log).take("uvicorn.error", "asyncio", "opentelemetry")
    try:
        Server(serving, reload).run(sockets)
    finally:
        for each in sockets:
            each.close()


def _bound(host: str, port: int) -> list[socket.socket]:
    """Sockets for an address, which do not listen yet. InputError if it is not free."""
    found: list[socket.socket] = []
    reason = "it has no address"
    try:
        addresses = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no name"
        raise InputError(f"cannot listen on {host!r}: {why}") from error
    for family, kind, protocol, _, address in addresses:
        try:
            each = socket.socket(family, kind, protocol)
        except OSError as error:  # a name may have addresses of kinds that this machine has not
            reason = str(error.strerror)
            continue
        try:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken = found[0].getsockname()[1] if found else port
            each.bind((address[0], taken, *address[2:]))
            found.append(each)
        except OSError as error:
            reason = str(error.strerror)
            each.close()
    if not found:
        raise InputError(f"cannot listen on {host}:{port}: {reason}")
    return found


def _allow_files() -> None:
    """Lets the process have as many connections as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
