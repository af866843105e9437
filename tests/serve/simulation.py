"""A server in simulated time: arrivals, workers that run what a scheduler chooses, and what became of each sequence.

And what tests of a scheduler say often.
"""

from __future__ import annotations

import gc
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from random import Random
from typing import Protocol

from fastcpu.serve.request import Batch, Entry, Policy, Rejected, Request
from fastcpu.serve.scheduler import Scheduler


class Clock:
    """Simulated seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Queue(Protocol):
    """What a simulation needs of a scheduler."""

    def submit(self, request: Request) -> None: ...
    def take(self) -> Batch | None: ...
    def due(self) -> float | None: ...
    def done(self, batch: Batch, seconds: float) -> None: ...
    def expire(self) -> list[Request]: ...


class Padded:
    """The baseline: first come, first served, in batches of at most `rows`, padded to their longest."""

    def __init__(self, clock: Clock, rows: int) -> None:
        self._clock, self._rows, self._entries = clock, rows, deque[Entry]()

    def submit(self, request: Request) -> None:
        request.arrived = self._clock()
        self._entries.extend(Entry(request, index) for index in range(request.waiting))

    def take(self) -> Batch | None:
        entries = [self._entries.popleft() for _ in range(min(self._rows, len(self._entries)))]
        for entry in entries:
            entry.request.waiting -= 1
        tokens = len(entries) * max((entry.length for entry in entries), default=0)
        return Batch(entries[0].request.model, entries, tokens, self._clock()) if entries else None

    def due(self) -> float | None:
        return self._clock() if self._entries else None

    def done(self, batch: Batch, seconds: float) -> None:
        pass

    def expire(self) -> list[Request]:
        return []


class Simulation:
    """Runs a scheduler with `workers`, each of which takes `seconds(model, tokens)` for a batch.

    Attributes:
        batches: all that ran, in order.
        started, ended: times of each sequence, by request and index.
        accepted, rejected, expired: what became of requests.
        ran: how often each sequence did.
    """

    def __init__(
        self,
        clock: Clock,
        scheduler: Queue,
        workers: int = 1,
        seconds: Callable[[str, int], float] = lambda _, tokens: 0.01 + 1e-4 * tokens,
    ) -> None:
        self.clock, self.scheduler = clock, scheduler
        self.idle, self._seconds = workers, seconds
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._run_of: Counter[Request] = Counter()  # sequences that have been run
        self._then: dict[Request, Callable[[], None]] = {}
        self.batches: list[Batch] = []
        self.started: dict[tuple[Request, int], float] = {}
        self.ended: dict[tuple[Request, int], float] = {}
        self.accepted: list[Request] = []
        self.rejected: list[tuple[Request, Rejected]] = []
        self.expired: list[Request] = []
        self.ran: Counter[tuple[Request, int]] = Counter()

    def at(self, time: float, action: Callable[[], None]) -> None:
        self._number += 1
        heappush(self._events, (time, self._number, action))

    def arrive(self, time: float, request: Request) -> Request:
        """The request is submitted at that time."""
        self.at(time, lambda: self.submit(request))
        return request

    def submit(self, request: Request) -> None:
        try:
            self.scheduler.submit(request)
            self.accepted.append(request)
        except Rejected as reason:
            self.rejected.append((request, reason))

    def loop(self, make: Callable[[], Request], until: float) -> None:
        """A client that submits a request, and the next one when that has been run."""
        request = make()
        self._then[request] = lambda: self.loop(make, until) if self.clock.now < until else None
        self.submit(request)

    def run(self, until: float = float("inf")) -> None:
        """Until then, or until nothing happens any more."""
        while self._events and self._events[0][0] <= until:
            time, _, action = heappop(self._events)
            self.clock.now = max(self.clock.now, time)
            action()
            if not self._events or self._events[0][0] > time:
                self._dispatch()

    def waits(self) -> list[float]:
        """Seconds between arrival and start of every sequence."""
        return [time - request.arrived for (request, _), time in self.started.items()]

    def latencies(self) -> list[float]:
        """Seconds between arrival and end of every sequence."""
        return [time - request.arrived for (request, _), time in self.ended.items()]

    def _dispatch(self) -> None:
        self.expired += self.scheduler.expire()
        while self.idle and (batch := self.scheduler.take()) is not None:
            self.idle -= 1
            self.batches.append(batch)
            for entry in batch.entries:
                key = entry.request, entry.index
                self.started[key] = self.clock.now
                self.ran[key] += 1
            seconds = self._seconds(batch.model, batch.tokens)
            self.at(self.clock.now + seconds, lambda batch=batch, seconds=seconds: self._done(batch, seconds))
        due = self.scheduler.due()
        if self.idle and due is not None:
            assert due > self.clock.now, "something is due, a worker is idle, and take gives nothing"
            self.at(due, lambda: None)

    def _done(self, batch: Batch, seconds: float) -> None:
        self.idle += 1
        self.scheduler.done(batch, seconds)
        for entry in batch.entries:
            self.ended[entry.request, entry.index] = self.clock.now
            self._run_of[entry.request] += 1
            if self._run_of[entry.request] == len(entry.request.lengths) and entry.request in self._then:
                self._then.pop(entry.request)()


def poisson(random: Random, rate: float, until: float) -> Iterator[float]:
    """Times of arrivals."""
    time = random.expovariate(rate)
    while time < until:
        yield time
        time += random.expovariate(rate)


def mixed_length(random: Random) -> int:
    """Tokens of a sequence: mostly short, some long, both lognormal."""
    median, sigma = (20.0, 0.5) if random.random() < 0.85 else (200.0, 0.4)
    return min(512, max(2, round(random.lognormvariate(0.0, sigma) * median)))


def percentile(values: Iterable[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def made(
    policy: Policy | None = None, *, client_share: float = 1.0, aging: float = 1.0, **more: Policy
) -> tuple[Clock, Scheduler]:
    """A scheduler of a model "m", and of `more`."""
    clock = Clock()
    scheduler = Scheduler(clock, client_share, aging)
    for model, its in (({"m": policy} if policy else {}) | more).items():
        scheduler.add(model, its)
    return clock, scheduler


def put(scheduler: Scheduler, *lengths: int, model: str = "m", payload: object = None, **more: object) -> Request:
    """A request that is accepted."""
    request = Request(model, lengths, payload, **more)  # type: ignore[arg-type]
    scheduler.submit(request)
    return request


def names(batch: Batch | None) -> list[object]:
    """The payloads of the sequences of a batch."""
    assert batch is not None
    return [entry.request.payload for entry in batch.entries]


def all_batches(scheduler: Scheduler, seconds: float = 0.0) -> list[Batch]:
    """What one worker gets until there is no more."""
    batches = []
    while (batch := scheduler.take()) is not None:
        scheduler.done(batch, seconds)
        batches.append(batch)
    return batches


def order(scheduler: Scheduler) -> list[object]:
    return [name for batch in all_batches(scheduler) for name in names(batch)]


def teach(scheduler: Scheduler, per_token: float, model: str = "m") -> None:
    """Lets the scheduler know the speed of the model."""
    for _ in range(3):
        scheduler.done(Batch(model, [], 100, 0.0), 100 * per_token)


def reachable(thing: object) -> int:
    """Objects that it keeps alive, and keys of dictionaries."""
    seen, todo, keys = {id(thing)}, [thing], 0
    while todo:
        current = todo.pop()
        keys += len(current) if isinstance(current, dict) else 0
        for other in gc.get_referents(current):
            if id(other) not in seen and not isinstance(other, type):
                seen.add(id(other))
                todo.append(other)
    return len(seen) + keys
