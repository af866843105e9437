"""Objects in processes of their own: engines that are timed side by side must not slow each other down."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from fastcpu.errors import FastcpuError

SETTLE_SECONDS = 0.05
"""Before each call: the threads of whatever ran before stop spinning."""
_STOP_SECONDS = 10.0


def _serve(connection: Connection, make: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    """Main function of the process: makes the object, then answers (method, arguments) until None comes."""
    try:
        served = make(*arguments)
        connection.send(None)
        while (request := connection.recv()) is not None:
            method, arguments = request
            connection.send(getattr(served, method)(*arguments))
    except (EOFError, KeyboardInterrupt):
        return
    except FastcpuError as error:
        connection.send(error)
    except Exception as error:  # noqa: BLE001  (engines of others raise what they like; the caller is told)
        lines = str(error).splitlines() or ["no message"]
        connection.send(FastcpuError(f"{type(error).__name__}: {lines[0]}"))


class Worker:
    """An object in a process of its own, until `close`.

    Args:
        label: what the messages of errors call it.
        make: what makes the object, in the process; a function or class of a module.
        arguments: for `make`.
    """

    def __init__(self, label: str, make: Callable[..., object], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.label = label
        self._connection, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, make, arguments), daemon=True)
        self._process.start()
        child.close()

    def wait_ready(self, timeout: float | None = None) -> None:
        """Returns when the object is made; errors as those of `call`."""
        self._receive(timeout)

    def call(self, method: str, *arguments: Any, timeout: float | None = None) -> Any:
        """What the object's method returns.

        Raises:
            FastcpuError: what was raised in the process, whose end that is; or the process has ended, or did not answer
                in `timeout` seconds. No further call is possible then.
        """
        time.sleep(SETTLE_SECONDS)
        with suppress(OSError):  # when the process has ended already; then there is no answer either
            self._connection.send((method, arguments))
        return self._receive(timeout)

    def _receive(self, timeout: float | None) -> Any:
        try:
            if not self._connection.poll(timeout):
                raise FastcpuError(f"{self.label}: no answer in {timeout:.0f} s")
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._process.join(_STOP_SECONDS)
            raise FastcpuError(f"{self.label}: its process ended with status {self._process.exitcode}") from None
        if isinstance(answer, FastcpuError):
            raise answer
        return answer

    def close(self) -> None:
        """Ends the process."""
        with suppress(OSError):  # when the process has ended already
            self._connection.send(None)
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._connection.close()
