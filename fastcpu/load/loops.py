"""When requests start: the arrivals of an open loop are set before the run, those of a closed one by the answers."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from time import monotonic_ns

import numpy as np

from fastcpu.load.client import Client
from fastcpu.load.clock import Alarm
from fastcpu.load.plan import MAX_REQUESTS, Plan
from fastcpu.load.recorder import Recorder

_BURST = 64  # requests started before answers are read again
_BACKOFF = 0.01  # seconds until a request of a closed loop follows one that failed


def draw_arrivals(rate: float, seconds: float, seed: int) -> array[int]:
    """The nanoseconds, from 0, at which requests of a Poisson process arrive within some seconds.

    A longer time has the same arrivals and more.
    """
    random = np.random.default_rng((seed, 0))
    parts: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    time, end = 0.0, seconds * 1e9
    while time < end:
        times = time + np.cumsum(random.exponential(1e9 / rate, 1 << 14))
        time = float(times[-1])
        parts.append(times[times < end].astype(np.int64))
    arrivals = array("q")
    arrivals.frombytes(np.concatenate(parts).tobytes())
    return arrivals


class OpenLoop:
    """Starts requests when they arrive.

    Attributes:
        finished: done when every request has been answered or has failed.
    """

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop, address: tuple[str, int], recorder: Recorder):
        assert plan.rate is not None
        self._plan = plan
        self._recorder = recorder
        self._messages: Sequence[bytes] = plan.messages()
        self._arrivals = draw_arrivals(plan.rate, plan.warmup + plan.duration, plan.seed)
        self._number = len(self._arrivals)
        self._next = 0
        self._origin = 0
        self._alarm = Alarm(loop, self._ring)
        self.client = Client(loop, address, plan.max_connections, plan.timeout, recorder, self._answered)
        self.finished: asyncio.Future[None] = loop.create_future()

    def begin(self, origin: int) -> None:
        """Everything counts from `origin`, in nanoseconds of `time.monotonic_ns`."""
        self._origin = origin
        plan, recorder = self._plan, self._recorder
        first = origin + int(plan.warmup * 1e9)
        recorder.set_times(first, first + int(plan.duration * 1e9))
        if plan.requests is not None:
            before = bisect_left(self._arrivals, first - origin)
            self._number = min(self._number, before + plan.requests)
        self.client.start()
        self._ring()

    def _ring(self) -> None:
        """Starts what has arrived, and sets the alarm for what comes next."""
        place, origin = self._next, self._origin
        number = min(self._number, place + _BURST)
        arrivals, messages = self._arrivals, self._messages
        submit, arrived = self.client.submit, self._recorder.arrived
        while place < number:
            start = origin + arrivals[place]
            now = monotonic_ns()
            if start > now:
                break
            self._next = place + 1
            submit(start, messages[place % len(messages)])
            arrived(start, now)
            place += 1
        if place < self._number:
            self._alarm.set(origin + arrivals[place])
        else:
            self._alarm.close()
            self._check_end()

    def _answered(self, answered: bool) -> None:
        del answered  # what arrives does not depend on it
        if self._next >= self._number:
            self._check_end()

    def _check_end(self) -> None:
        if self.client.pending == 0 and not self.finished.done():
            if self._number < len(self._arrivals):
                self._recorder.end_early()
            self.finished.set_result(None)

    def interrupt(self) -> None:
        """Ends the run now; requests that are under way stay without an answer."""
        if not self.finished.done():
            self._alarm.close()
            self._number = self._next
            self._recorder.interrupt(monotonic_ns())
            self.finished.set_result(None)

    async def close(self) -> None:
        self._alarm.close()
        await self.client.close()


class ClosedLoop:
    """Keeps a number of requests under way.

    Attributes:
        finished: done when every request has been answered or has failed.
    """

    def __init__(self, plan: Plan, loop: asyncio.AbstractEventLoop, address: tuple[str, int], recorder: Recorder):
        assert plan.concurrency is not None
        self._plan = plan
        self._loop = loop
        self._recorder = recorder
        self._messages: Sequence[bytes] = plan.messages()
        self._workers = plan.concurrency
        self._left = MAX_REQUESTS if plan.requests is None else plan.requests
        self._next = 0
        self._closed = False
        self.client = Client(loop, address, plan.concurrency, plan.timeout, recorder, self._answered)
        self.finished: asyncio.Future[None] = loop.create_future()

    def begin(self, origin: int) -> None:
        """Starts at `origin`, in nanoseconds of `time.monotonic_ns`, give or take the rounding of the event loop."""
        self._loop.call_later(max(0.0, (origin - monotonic_ns()) / 1e9), self._start)

    def _start(self) -> None:
        if self._closed:
            return
        first = monotonic_ns() + int(self._plan.warmup * 1e9)
        self._recorder.set_times(first, first + int(self._plan.duration * 1e9))
        self.client.start()
        for _ in range(self._workers):
            self._follow()

    def _follow(self) -> None:
        """Starts the next request of one worker, or ends the worker."""
        if self._closed:
            return
        now = monotonic_ns()
        recorder = self._recorder
        if now >= recorder.last or self._left == 0:
            self._workers -= 1
            if self._workers == 0 and not self.finished.done():
                if self._left == 0:
                    recorder.end_early()
                self.finished.set_result(None)
            return
        if now >= recorder.first:
            self._left -= 1
        place = self._next
        self._next = place + 1
        recorder.arrived(now, now)
        self.client.submit(now, self._messages[place % len(self._messages)])

    def _answered(self, answered: bool) -> None:
        if answered:
            self._follow()
        else:
            self._loop.call_later(_BACKOFF, self._follow)

    def interrupt(self) -> None:
        """Ends the run now; requests that are under way stay without an answer."""
        if not self.finished.done():
            self._closed = True
            self._recorder.interrupt(monotonic_ns())
            self.finished.set_result(None)

    async def close(self) -> None:
        self._closed = True
        await self.client.close()
