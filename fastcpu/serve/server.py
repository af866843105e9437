"""The process: sockets, signals, and an orderly end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from fastcpu.serve.app import application
from fastcpu.serve.config import Config
from fastcpu.serve.serving import Serving

_GRACE = 0.3
"""Seconds from SIGTERM to the end of accepting: answers say `Connection: close` meanwhile, so that clients that keep
connections open leave by themselves."""


class Server(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, and then answers what it has accepted.

    Args:
        serving: what answers.
        reload: gives the configuration again, for SIGHUP; None if there is none to read.
    """

    def __init__(self, serving: Serving, reload: Callable[[], Config] | None) -> None:
        config = serving.config
        super().__init__(
            uvicorn.Config(
                application(serving),
                host=config.host,
                port=config.port,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, round(config.drain_seconds)),
                h11_max_incomplete_event_size=65536,
            )
        )
        self._serving = serving
        self._reload = reload
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes the signals of the process, which uvicorn would answer with an end at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._spawn, self._drain)
        loop.add_signal_handler(signal.SIGHUP, self._spawn, self._apply)
        yield

    def _spawn(self, function: Callable[[], Any]) -> None:
        task = asyncio.get_running_loop().create_task(function())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            address = self.servers[0].sockets[0].getsockname()
            self._serving.log.event(
                "info",
                "listening",
                host=address[0],
                port=address[1],
                pid=os.getpid(),
                models=self._serving.repository.names(),
            )

    async def _drain(self) -> None:
        serving = self._serving
        if serving.draining:
            self.force_exit = self.should_exit = True  # asked a second time
            return
        serving.draining = True
        serving.log.event("info", "draining", requests=serving.in_flight)
        await asyncio.sleep(_GRACE)
        await serving.idle(serving.config.drain_seconds)
        self.should_exit = True

    async def _apply(self) -> None:
        if self._reload is None:
            await self._serving.repository.refresh()
            return
        try:
            failed = await self._serving.repository.apply(self._reload())
        except Exception as error:  # noqa: BLE001  (a file with mistakes must not end the server)
            self._serving.log.event("error", "the configuration cannot be read; nothing changed", reason=str(error))
            return
        self._serving.log.event("info", "the configuration was read again", failed=failed)


def serve(config: Config, reload: Callable[[], Config] | None = None) -> int:
    """Serves until a signal ends it; the exit status.

    Raises:
        FastcpuError: a model cannot be served; the message says why.
    """
    # The tokenizers would use all CPUs for a batch of texts, beside the threads that run the models.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    serving = Serving(config)
    server = Server(serving, reload)
    server.run()
    return 0 if server.started else 2
