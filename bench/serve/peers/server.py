"""A peer's server as a process that is pinned to CPUs and leaves nothing behind."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from bench.environments import ROOT
from bench.serve.peers.protocol import HOST, Peer

START_SECONDS = 180.0
ANSWER_SECONDS = 60.0
STOP_SECONDS = 10.0


class ServerFailure(Exception):
    """A server did not start, died or answered with an error; the message says which and why."""


@contextlib.contextmanager
def _on_cpus(cpus: Sequence[int]) -> Iterator[None]:
    """This thread runs on `cpus` meanwhile; a process that it starts keeps them."""
    before = os.sched_getaffinity(0)
    if cpus:
        os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only its entry in the table."""
    try:
        return _stat(pid)[0] != "Z"
    except (OSError, IndexError):
        return False


def _stat(pid: int) -> list[str]:
    """State, parent and so on of a process; OSError without one."""
    # The name in parentheses may hold anything.
    return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time that processes have used; none for those that have ended."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, _stat(pid)[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """The processes that `pid` has started, and those that they have."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError, IndexError):  # it may have ended
                parents.setdefault(int(_stat(int(path.name))[1]), []).append(int(path.name))
    found: list[int] = []
    left = [pid]
    while left:
        children = parents.get(left.pop(), [])
        found += children
        left += children
    return found


class Server:
    """The server of `peer`, started by `with` and answering from then on.

    Args:
        peer: which, with its variant and options.
        model_dir: the Hugging Face directory of the model.
        port: on 127.0.0.1.
        threads: that it computes with.
        cpus: the CPUs that all of it runs on; empty for those of this process.
        cache: for the files that it needs besides the model.
        log: takes what it prints.
    """

    def __init__(
        self, peer: Peer, model_dir: Path, port: int, threads: int, cpus: Sequence[int], cache: Path, log: Path
    ) -> None:
        self.peer = peer
        self.port = port
        self._log = log
        model = peer.prepare(model_dir, cache)
        command = peer.command(model, port, threads)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output, _on_cpus(cpus):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | peer.environ(model, threads),
                cwd=ROOT,
                start_new_session=True,
            )
        atexit.register(self.close)

    @property
    def pids(self) -> list[int]:
        """All of its processes."""
        return [self._process.pid, *descendants(self._process.pid)]

    def __enter__(self) -> Server:  # noqa: PYI034  (typing.Self is newer than Python 3.10)
        try:
            self._wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fail(self, what: str) -> ServerFailure:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return ServerFailure(
            f"{self.peer.name} {self.peer.variant} {what}; {lines[-1] if lines else 'it said nothing'}"
        )

    def _wait_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise self._fail(f"ended with status {self._process.returncode}")
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
                try:
                    connection.request("GET", self.peer.ready_path)
                    if connection.getresponse().status == 200:
                        return
                finally:
                    connection.close()
            time.sleep(0.1)
        raise self._fail(f"was not ready after {START_SECONDS:g} s")

    def connect(self) -> http.client.HTTPConnection:
        """A connection that may be kept for many requests."""
        return http.client.HTTPConnection(HOST, self.port, timeout=ANSWER_SECONDS)

    def embed(self, texts: Sequence[str], connection: http.client.HTTPConnection | None = None) -> NDArray[np.float32]:
        """The vectors of `texts` by one request, on `connection` or one of its own."""
        own = connection or self.connect()
        path, headers, body = self.peer.body(texts)
        try:
            own.request("POST", path, body, headers)
            response = own.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._fail(f"did not answer ({error!r})") from None
        finally:
            if connection is None:
                own.close()
        if response.status != 200:
            raise ServerFailure(f"{self.peer.name} answered {response.status}: {content[:200]!r}")
        return self.peer.vectors(content)

    def close(self) -> None:
        """Ends all of its processes."""
        atexit.unregister(self.close)
        running = self.pids if self._process.poll() is None else []
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        # Its group, and children that left it for one of their own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for pid in running[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        end = time.monotonic() + STOP_SECONDS
        while any(map(is_running, running)) and time.monotonic() < end:
            time.sleep(0.05)
