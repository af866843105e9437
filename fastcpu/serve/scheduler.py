"""Which sequences run next: bounded queues of many models, clients and priorities, cut into ragged batches.

No thread, lock or clock of its own: the caller gives the clock and holds a lock around every call.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import accumulate, takewhile
from math import inf

from fastcpu.serve.request import PRIORITIES, Batch, Entry, Policy, QueueFull, Request, TooLate, Waiting
from fastcpu.serve.speed import Speed

_UNKNOWN = 1.0  # seconds; `retry_after` while the speed is not known
_GUESS = 1e-4  # seconds per token that a batch is charged with while the speed is not known
_MARGIN = 1.05  # for the error of the estimate where a deadline depends on it
_SLACK = 1.5  # estimated run times before its deadline at which a sequence stops waiting for others


class _Flow:
    """The requests of one client in a lane, first come first served.

    Attributes:
        start: start tag of the next sequence.
        since: when the client began to wait here, or was last given something.
    """

    def __init__(self) -> None:
        self.requests: OrderedDict[Request, None] = OrderedDict()
        self.start, self.since, self.tokens = 0.0, 0.0, 0
        self.item: tuple[float, int, _Flow] | None = None  # of the heap of the lane; others of it are stale


class _Lane:
    """What waits for a model at one priority: start-time fair queueing between clients, in tokens.

    A sequence has a start tag: the finish tag (start tag plus tokens) of the one of its client before it, but not less
    than the lane's virtual time when its client began to wait. The smallest tag is next. The virtual time is the start
    tag of the last one taken, and moves at least as fast as a client would get on that shares the lane with all that
    wait; without the latter, an endless row of new clients would stop it and starve those with more to do. It leads
    the smallest tag by at most `budget` tokens.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._flows: dict[str, _Flow] = {}  # those with requests, and idle ones whose last finish tag is still to come
        self._heap: list[tuple[float, int, _Flow]] = []
        self._turns: OrderedDict[_Flow, None] = OrderedDict()  # those with requests, by `since`
        self._keep = 64  # flows at which idle ones are looked for
        self._time = 0.0
        self.tokens = 0

    @property
    def active(self) -> int:
        """Clients of which something waits here."""
        return len(self._turns)

    def of(self, client: str) -> int:
        """Tokens of the client that wait here."""
        flow = self._flows.get(client)
        return flow.tokens if flow else 0

    def push(self, request: Request, now: float) -> None:
        flow = self._flows.get(request.client)
        if flow is None:
            if len(self._flows) >= self._keep:
                self._flows = {k: f for k, f in self._flows.items() if f.requests or f.start > self._time}
                self._keep = max(64, 2 * len(self._flows))
            flow = self._flows[request.client] = _Flow()
        if not flow.requests:
            flow.start, flow.since = max(flow.start, self._time), now
            self._turns[flow] = None
        flow.requests[request], request._lane = None, self
        self._count(flow, request._tokens)

    def first(self) -> Request | None:
        """The request of the sequence that is next."""
        heap = self._heap
        while heap and heap[0][2].item is not heap[0]:
            heappop(heap)
        return next(iter(heap[0][2].requests)) if heap else None

    def take(self, request: Request, now: float, tokens: int, rows: float) -> list[Entry]:
        """The next sequence of `request`, which is the first; if nobody else waits here, as many as fit.

        Of these at most `rows`, with at most `tokens` in all.
        """
        entries = self._take_more(request, tokens, rows) if self.active == 1 and request.waiting > 1 else []
        return [*entries, self._take(request, now)]

    def _take_more(self, request: Request, tokens: int, rows: float) -> list[Entry]:
        """Those of the only client's first request that are in front of the last one that fits."""
        flow, lengths = self._flows[request.client], request.lengths
        entries: list[Entry] = []
        number, total, last = request._next, 0, len(request.lengths) - 1
        while number < last and len(entries) + 1 < rows and total + lengths[number] + lengths[number + 1] <= tokens:
            length = lengths[number]
            entries.append(Entry(request, number))
            self._time = max(self._time, flow.start, min(self._time + length / 2, flow.start + length + self._budget))
            flow.start += length
            total += length
            number += 1
        request._next, request.waiting = number, request.waiting - len(entries)
        request._tokens -= total
        flow.tokens -= total
        self.tokens -= total
        return entries

    def _take(self, request: Request, now: float) -> Entry:
        flow = self._flows[request.client]
        entry = Entry(request, request._next)
        length, start, share = entry.length, flow.start, entry.length / (self.active + 1)
        request._next += 1
        request._tokens -= length
        request.waiting -= 1
        flow.start += length
        self._served(flow, now)
        if not request.waiting:
            del flow.requests[request]
        self._count(flow, -length)
        if self.first():
            self._time = max(self._time, start, min(self._time + share, self._heap[0][0] + self._budget))
        return entry

    def remove(self, request: Request) -> None:
        """Forgets what waits of the request."""
        flow = self._flows[request.client]
        del flow.requests[request]
        self._count(flow, -request._tokens)

    def starving(self, limit: float, now: float) -> Iterator[Request]:
        """Takes out what arrived up to `limit`, of clients that were given nothing since then."""
        while self._turns and (flow := next(iter(self._turns))).since <= limit:
            self._served(flow, now)
            for request in [*takewhile(lambda request: request.arrived <= limit, flow.requests)]:
                self.remove(request)
                yield request

    def _served(self, flow: _Flow, now: float) -> None:
        flow.since = now
        self._turns.move_to_end(flow)

    def _count(self, flow: _Flow, tokens: int) -> None:
        """`tokens` more wait in the flow; its place among the flows may be another."""
        flow.tokens += tokens
        self.tokens += tokens
        if not flow.requests:
            flow.item = None
            del self._turns[flow]
            if not self._turns:
                self._flows.clear()
                self._heap.clear()
                self._keep, self._time = 64, 0.0
            return
        number = next(iter(flow.requests))._number
        if flow.item is None or flow.item[:2] != (flow.start, number):
            flow.item = (flow.start, number, flow)
            heappush(self._heap, flow.item)
            if len(self._heap) > 2 * self.active + 16:
                self._heap = [f.item for f in self._turns if f.item]
                heapify(self._heap)


class _Queue:
    """What waits for one model, its speed, and its part of the time."""

    def __init__(self, policy: Policy, aging: float) -> None:
        self.policy, self._aging = policy, aging
        self.lanes = [_Lane(policy.batch_tokens) for _ in range(PRIORITIES)]
        self.requests: OrderedDict[Request, None] = OrderedDict()  # by arrival
        self.held: dict[str, int] = {}  # tokens of each client that wait
        self.counted = 0  # tokens that wait, of large requests only a part
        self.tokens = self.sequences = 0
        self.deadlines: list[tuple[float, int, Request]] = []  # a heap; some no longer wait
        self.dated = 0  # requests with deadlines that wait
        self.running = 0
        self.speed = Speed()
        self.fill = float(policy.batch_tokens)  # tokens of a batch of a long queue
        self.usual = 0.0  # tokens of any batch
        self.used = 0.0  # virtual time: seconds over weight
        self.floor = 0.0  # of all models when it began to wait

    def push(self, request: Request) -> None:
        self.requests[request] = None
        self.held[request.client] = self.held.get(request.client, 0) + request._tokens
        self.counted += request._most
        self.tokens += request._tokens
        self.sequences += request.waiting
        if request.deadline is not None:
            self.dated += 1
            heappush(self.deadlines, (request.deadline, request._number, request))
            if len(self.deadlines) > 2 * self.dated + 16:
                self.deadlines = [item for item in self.deadlines if item[2].waiting]
                heapify(self.deadlines)
        self._age(request.priority, request.arrived)
        self.lanes[request.priority].push(request, request.arrived)

    def drop(self, request: Request) -> None:
        """What waits of the request never runs."""
        assert request._lane is not None
        request._lane.remove(request)
        tokens, sequences = request._tokens, request.waiting
        request._tokens = request.waiting = 0
        request.cancelled = True
        self._left(request, tokens, sequences)

    def overdue(self, now: float) -> list[Request]:
        """Drops the requests whose deadline has passed."""
        found = []
        while (earliest := self._deadline()) is not None and earliest <= now:
            request = heappop(self.deadlines)[2]
            self.drop(request)
            found.append(request)
        return found

    def due(self, now: float) -> float:
        """When the first of those that wait should run; `now` if a batch is full."""
        policy = self.policy
        if self.tokens >= policy.batch_tokens or (policy.batch_rows and self.sequences >= policy.batch_rows):
            return now
        time = next(iter(self.requests)).arrived + policy.max_delay
        deadline = self._deadline() if policy.max_delay else None
        if deadline is not None:
            margin = _SLACK * self.speed.seconds(self.tokens) if self.speed.known else policy.max_delay
            time = min(time, deadline - margin)
        return time

    def take(self, now: float) -> tuple[list[Entry], int]:
        """The sequences of the next batch, and their tokens."""
        self._age(next(number for number, lane in enumerate(self.lanes) if lane.tokens), now)
        entries: list[Entry] = []
        total, policy = 0, self.policy
        for lane in self.lanes:
            while (first := lane.first()) is not None:
                tokens = total + first.lengths[first._next]
                if entries and (tokens > policy.batch_tokens or len(entries) == policy.batch_rows):
                    self.fill += 0.1 * (total - self.fill)
                    return entries, total
                left = inf if policy.batch_rows is None else policy.batch_rows - len(entries)
                taken = lane.take(first, now, policy.batch_tokens - total, left)
                tokens = sum(entry.length for entry in taken)
                entries += taken
                total += tokens
                self._left(first, tokens, len(taken))
        return entries, total

    def ahead(self, client: str, priority: int, tokens: int) -> float:
        """Tokens that would probably run before a new request has had `tokens`, these not counted.

        All of higher priority and of its client. Of another client at most as many as the request's client will have
        had: what waits, and as far as batches run full, as many again, since others then go on to send.
        """
        lane = self.lanes[priority]
        own = lane.of(client)
        others = lane.active - (own > 0)
        urgent = sum(lane.tokens for lane in self.lanes[:priority])
        most = others * (own + tokens)
        return urgent + own + min(lane.tokens - own + most * self.usual / self.fill, most)

    def seconds(self, tokens: float) -> float:
        """Estimated seconds of one worker for that many waiting tokens."""
        return self.speed.seconds(tokens, max(1.0, tokens / self.fill))

    def _age(self, priority: int, now: float) -> None:
        """Moves to priority 0 what has waited for too long behind `priority`."""
        for lane in self.lanes[priority + 1 :]:
            for request in lane.starving(now - self._aging, now):
                self.lanes[0].push(request, now)

    def _left(self, request: Request, tokens: int, sequences: int) -> None:
        """So much of the request no longer waits."""
        self.tokens -= tokens
        self.sequences -= sequences
        self.counted -= min(request._tokens + tokens, request._most) - min(request._tokens, request._most)
        held = self.held[request.client] - tokens
        if held:
            self.held[request.client] = held
        else:
            del self.held[request.client]
        if not request.waiting:
            del self.requests[request]
            self.dated -= request.deadline is not None

    def _deadline(self) -> float | None:
        """The earliest deadline of those that wait."""
        while self.deadlines and not self.deadlines[0][2].waiting:
            heappop(self.deadlines)
        return self.deadlines[0][0] if self.deadlines else None


@dataclass(slots=True)
class _Run:
    """A batch that runs: of which queue, the seconds it is charged with, and when it probably ends."""

    queue: _Queue
    charged: float
    until: float


class Scheduler:
    """Chooses what runs next among the models, priorities and clients.

    A request's sequences may run in different batches, so a large one does not hold up small ones. A batch is of one
    model and is filled in order until the next sequence would exceed its bounds. The order in a model is by priority,
    then fair between clients in tokens, then by arrival; one client's sequences of one priority keep their order. When
    a client was given nothing at a priority for `aging` seconds, its sequences that have waited for as long join those
    of priority 0; who has much waiting, but is given his share, does not become urgent by that. Of the models that
    should run, the one that has used the least time over its weight is next; idle time gives no credit.

    What is estimated: a model's batch of n tokens takes ``fixed + per_token * n`` seconds, learned from `done`. The
    wait for a new request is the rest of what runs, by that estimate, and the tokens that would run before it, of its
    model and of others by their weights, divided by the batches seen to run side by side. Other clients are expected to
    go on as they do, but more urgent requests that come later, what will have aged, and `max_delay` are not foreseen. A
    model of which no batch is done yet counts as infinitely fast. So does the request itself where nothing of its model
    waits or runs: a wrong estimate cannot lock it out for good.

    A call takes O(log n) amortised for n waiting requests, and time for each model and running batch.

    Args:
        clock: seconds, never going back.
        client_share: the part of a model's `max_queue_tokens` that one client may fill. A larger request is accepted
            if nothing of its client waits, and counts as half of that part for the others.
        aging: seconds after which a sequence that waits for more urgent ones counts as one of priority 0.
    """

    def __init__(self, clock: Callable[[], float], client_share: float = 1.0, aging: float = 1.0) -> None:
        if not (0 < client_share <= 1 and aging >= 0):
            raise ValueError("client_share must be over 0 and at most 1, and aging not negative")
        self._clock, self._share, self._aging = clock, client_share, aging
        self._queues: dict[str, _Queue] = {}
        self._running: dict[Batch, _Run] = {}
        self._expired: list[Request] = []
        self._accepted = 0
        self._time = 0.0  # virtual: `used` of the model that was last taken from
        self._workers = 1.0  # batches that run side by side

    def add(self, model: str, policy: Policy) -> None:
        """Serves the model from now on. ValueError if it is served already."""
        if model in self._queues:
            raise ValueError(f"model {model!r} is there already")
        self._queues[model] = _Queue(policy, self._aging)

    def remove(self, model: str) -> list[Request]:
        """Forgets the model. Returns the requests of which something waited; they are cancelled."""
        queue = self._queues.pop(model)
        requests = list(queue.requests)
        for request in requests:
            queue.drop(request)
        return requests

    def submit(self, request: Request) -> None:
        """Lets the sequences of the request wait for their turns.

        Raises:
            QueueFull: the queue has no room for it.
            TooLate: its deadline has passed or cannot be met, by the estimate.
            KeyError: unknown model.
            ValueError: it was submitted before.
        """
        queue = self._queues[request.model]
        if request._number or request.cancelled:
            raise ValueError("a request is submitted once")
        now = self._clock()
        if request.deadline is not None and request.deadline <= now:
            raise TooLate("the deadline has passed")
        self._expire(now)
        self._check_room(queue, request.client, request._tokens)
        self._check_wait(queue, request, now)
        if not queue.tokens:
            queue.floor = self._time
            queue.used = max(queue.used, self._time)
        share = int(queue.policy.max_queue_tokens * self._share)
        if request._tokens > share:
            request._most = max(1, share // 2)
        self._accepted += 1
        request._number, request.arrived = self._accepted, now
        queue.push(request)

    def room(self, model: str, client: str = "", priority: int = 3) -> None:
        """QueueFull if the queue has no room for even one token of the client, or that would wait for too long.

        So who has a request can be told before it is tokenized; O(1) beside the estimate.
        """
        now, queue = self._clock(), self._queues[model]
        self._expire(now)
        self._check_room(queue, client, 1)
        self._check_delay(queue, client, priority, 1, now)

    def cancel(self, request: Request) -> bool:
        """What waits of the request never runs, and its room is free. Whether anything waited."""
        waited = request._number > 0 and request.waiting > 0
        if waited:
            self._queues[request.model].drop(request)
        request.cancelled = True
        return waited

    def take(self) -> Batch | None:
        """The batch that should run now, if any. Tell `done` when it has run or failed."""
        now = self._clock()
        self._expire(now)
        ready = [
            (queue.used, next(iter(queue.requests)).arrived, model)
            for model, queue in self._queues.items()
            if queue.tokens and queue.due(now) <= now
        ]
        if not ready:
            return None
        model = min(ready)[2]
        queue = self._queues[model]
        entries, tokens = queue.take(now)
        queue.usual += 0.1 * (tokens - queue.usual)
        batch = Batch(model, entries, tokens, now)
        seconds = queue.speed.seconds(tokens)
        charged = seconds if queue.speed.known else tokens * _GUESS
        self._time = max(self._time, queue.used)
        queue.used += charged / queue.policy.weight
        queue.running += 1
        self._running[batch] = _Run(queue, charged, now + seconds)
        side_by_side = len(self._running)
        self._workers = max(float(side_by_side), self._workers + 0.02 * (side_by_side - self._workers))
        return batch

    def due(self) -> float | None:
        """Time from which `take` gives a batch without a further `submit`: now or later. None if nothing waits."""
        now = self._clock()
        self._expire(now)
        return min((max(now, queue.due(now)) for queue in self._queues.values() if queue.tokens), default=None)

    def done(self, batch: Batch, seconds: float) -> None:
        """The batch has run for that long; 0 if it failed, which teaches nothing.

        One that was not taken, such as a warm-up run, only teaches the speed. One of a removed model is ignored.
        """
        run, queue = self._running.pop(batch, None), self._queues.get(batch.model)
        if queue is None or (run and run.queue is not queue):
            return
        queue.speed.learn(batch.tokens, seconds)
        if run:
            queue.running -= 1
            queue.used = max(queue.floor, queue.used + (seconds - run.charged) / queue.policy.weight)

    def expire(self) -> list[Request]:
        """Requests of which something waited when their deadline passed, each once. They are cancelled.

        The scheduler keeps them until it is asked.
        """
        self._expire(self._clock())
        expired, self._expired = self._expired, []
        return expired

    def waiting(self, model: str) -> Waiting:
        """What waits for the model."""
        now = self._clock()
        self._expire(now)
        queue = self._queues[model]
        seconds = self._until(queue, queue.tokens, now) if queue.tokens and queue.speed.known else 0.0
        return Waiting(len(queue.requests), queue.sequences, queue.tokens, seconds)

    def _expire(self, now: float) -> None:
        for queue in self._queues.values():
            self._expired += queue.overdue(now)

    def _check_room(self, queue: _Queue, client: str, tokens: int) -> None:
        """QueueFull unless so many tokens of the client have room."""
        bound, held = queue.policy.max_queue_tokens, queue.held.get(client, 0)
        over, share = queue.counted + tokens - bound, int(bound * self._share)
        if queue.tokens and over > 0:
            raise QueueFull("the queue is full", self._retry(queue, over))
        if held and held + tokens > share:
            over = (held + tokens - share) * len(queue.held)
            raise QueueFull("the client's part of the queue is full", self._retry(queue, over))

    def _check_wait(self, queue: _Queue, request: Request, now: float) -> None:
        """Refuses what would wait for longer than `max_wait`, or would not be done by its deadline."""
        self._check_delay(queue, request.client, request.priority, request.lengths[0], now)
        if request.deadline is not None:
            before = queue.ahead(request.client, request.priority, request._tokens)
            before += request._tokens - request.lengths[-1]
            wait = self._until(queue, before, now)
            if queue.tokens or queue.running:
                wait += queue.seconds(max(queue.usual, request.lengths[-1]))
            late = now + _MARGIN * wait - request.deadline
            if late > 0:
                raise TooLate(f"it would be done in about {wait:.3g} s", late)

    def _check_delay(self, queue: _Queue, client: str, priority: int, length: int, now: float) -> None:
        """QueueFull for a request whose first sequence, of that length, would wait for longer than `max_wait`."""
        limit = queue.policy.max_wait
        if limit is None:
            return
        before = queue.ahead(client, priority, length)
        wait = self._until(queue, 0 if before + length <= queue.fill else before, now)
        if wait > limit:
            raise QueueFull(f"the wait would be about {wait:.3g} s", wait - limit)

    def _retry(self, queue: _Queue, tokens: int) -> float:
        """Seconds until about `tokens` of those that wait have been taken; the last batch of them need not have run."""
        before = max(0.0, min(tokens, queue.tokens) - queue.fill)
        return self._until(queue, before, self._clock()) if queue.speed.known else _UNKNOWN

    def _until(self, queue: _Queue, tokens: float, now: float) -> float:
        """Estimated seconds until `tokens` of the queue have been run and the next may start."""
        work = own = queue.seconds(tokens)
        for other in self._queues.values():
            if other is not queue and other.tokens:
                work += min(other.seconds(other.tokens), own * other.policy.weight / queue.policy.weight)
        rest = [max(0.0, run.until - now) for run in self._running.values()]
        rest += [0.0] * (round(self._workers) - len(rest))
        # The first `count` workers to be free share the work until one more is free.
        return min((work + busy) / count for count, busy in enumerate(accumulate(sorted(rest)), 1))
