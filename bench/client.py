"""The benchmark's side of a worker process: it runs only while a request is being answered."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import wire
from bench.e2e import find_engine
from bench.environments import python_of

ROOT = Path(__file__).resolve().parent.parent


class EngineFailure(Exception):
    """An engine raised, died or did not answer in time; the message says which and why."""


def _python_of(engine: str) -> str:
    """The Python that runs `engine`; EngineFailure if its environment was not made."""
    environment = find_engine(engine).environment
    if not environment:
        return sys.executable
    try:
        return str(python_of(environment))
    except FileNotFoundError as error:
        raise EngineFailure(str(error)) from None


class WorkerProcess:
    """One engine in its own process, stopped with SIGSTOP whenever it is not answering a request.

    Stopping it, threads and all, is what keeps an engine's spinning threads from slowing the engine whose turn it is.
    """

    def __init__(self, engine: str, cpus: Sequence[int], log: Path) -> None:
        """Starts the process pinned to `cpus`; what it prints goes to the file `log`."""
        self.engine = engine
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        # NNCF's telemetry is off in CI runs.
        environment = os.environ | {"PYTHONPATH": str(ROOT), "NNCF_CI": "1", "PYTHONUNBUFFERED": "1"}
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [_python_of(engine), "-m", "bench.worker", engine, ",".join(map(str, cpus))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                bufsize=0,
                env=environment,
            )
        self._pause()

    def __enter__(self) -> WorkerProcess:  # noqa: PYI034  (typing.Self is newer than Python 3.10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def _pause(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)

    def _resume(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)

    def call(
        self, do: str, groups: Sequence[wire.ArrayGroup] = (), *, timeout: float = 900.0, **arguments: Any
    ) -> wire.Message:
        """Lets the worker do `do` and returns its reply; EngineFailure if it cannot within `timeout` seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._resume()
        try:
            wire.send(self._process.stdin.fileno(), {"do": do, **arguments}, groups)
            header, arrays = wire.receive(self._process.stdout.fileno(), timeout)
        except (EOFError, BrokenPipeError):
            code = self._process.wait(timeout=30)
            raise EngineFailure(f"{self.engine} died in {do} (exit code {code}): {self._last_line()}") from None
        except TimeoutError:
            self._process.kill()
            raise EngineFailure(f"{self.engine} did not finish {do} in {timeout:g} s") from None
        finally:
            self._pause()
        if "error" in header:
            raise EngineFailure(f"{do}: {header['error']}")
        return header, arrays

    def _last_line(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
