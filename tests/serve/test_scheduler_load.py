"""The scheduler under simulated load: what always holds, overload, and throughput."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcpu.serve.request import Batch, Policy, QueueFull, Rejected, Request
from fastcpu.serve.scheduler import Scheduler
from tests.serve.simulation import Clock, Padded, Queue, Simulation, made, mixed_length, percentile, poisson

BOUND = 400


class Checked(Scheduler):
    """A scheduler of "m" and "other" that checks after every call what must always hold."""

    def __init__(self, clock: Clock, policy: Policy, client_share: float) -> None:
        super().__init__(clock, client_share, aging=0.7)
        self.now, self.policy, self.part = clock, policy, client_share
        self.live: dict[str, list[Request]] = {"m": [], "other": []}
        self.running: list[Batch] = []
        self.gone: list[Request] = []
        self.last: dict[tuple[str, str, int], tuple[int, int]] = {}
        self.numbers: dict[Request, int] = {}
        for model in self.live:
            self.add(model, policy)

    def submit(self, request: Request) -> None:
        self.expire_into()
        live = [other for other in self.live[request.model] if other.waiting]
        alone, first = not live, not any(other.client == request.client for other in live)
        super().submit(request)
        self.live[request.model].append(request)
        self.numbers[request] = len(self.numbers)
        assert request.arrived == self.now.now
        waiting = self._check(request.model)
        assert alone or sum(map(self._counted, self.live[request.model])) <= BOUND
        assert first or waiting[request.client] <= BOUND * self.part

    def take(self) -> Batch | None:
        before = {model: self._tokens(model) for model in self.live}
        due = self.due()
        batch = super().take()
        assert (batch is None) == (due is None or due > self.now.now)
        if batch is None:
            return None
        policy = self.policy
        assert batch.tokens == sum(entry.length for entry in batch.entries)
        assert len(batch.entries) == 1 or batch.tokens <= policy.batch_tokens
        assert 1 <= len(batch.entries) <= (policy.batch_rows or 1000)
        after = self._check(batch.model)
        assert batch.tokens == sum(before[batch.model].values()) - sum(after.values())
        for entry in batch.entries:
            request = entry.request
            assert request.model == batch.model
            assert not request.cancelled
            assert request.deadline is None or request.deadline > self.now.now
            key, place = (request.model, request.client, request.priority), (self.numbers[request], entry.index)
            assert self.last.get(key, (-1, -1)) < place, "one client's sequences of one priority change their order"
            self.last[key] = place
            for other in self.live[batch.model]:
                aged = self.now.now - request.arrived >= 0.7
                assert not other.waiting or other.priority >= request.priority or aged, "a more urgent one waits"
        self.running.append(batch)
        return batch

    def cancel(self, request: Request) -> bool:
        waited = request.waiting > 0
        assert super().cancel(request) == waited
        self._check(request.model)
        return waited

    def _counted(self, request: Request) -> int:
        """What waits of a request; of one that is larger than a client's part, at most half of that."""
        waiting = sum(request.lengths[-request.waiting :]) if request.waiting else 0
        part = int(BOUND * self.part)
        return min(waiting, part // 2) if sum(request.lengths) > part else waiting

    def _tokens(self, model: str) -> Counter[str]:
        self.expire_into()
        found: Counter[str] = Counter()
        for request in self.live[model]:
            if request.waiting:
                found[request.client] += sum(request.lengths[-request.waiting :])
        return found

    def expire_into(self) -> None:
        """What has expired is asked for before anything is counted."""
        for request in super().expire():
            assert request.deadline is not None
            assert request.deadline <= self.now.now
            assert request.cancelled
            self.gone.append(request)

    def _check(self, model: str) -> Counter[str]:
        found, told = self._tokens(model), self.waiting(model)
        live = [request for request in self.live[model] if request.waiting]
        assert (told.requests, told.tokens) == (len(live), sum(found.values()))
        assert told.sequences == sum(request.waiting for request in live)
        return found


def random_policy(random: Random) -> Policy:
    return Policy(
        batch_tokens=random.choice([20, 100]),
        batch_rows=random.choice([None, 3]),
        max_delay=random.choice([0.0, 0.3]),
        max_queue_tokens=BOUND,
        max_wait=random.choice([None, 1.0]),
        weight=random.choice([1.0, 2.5]),
    )


@given(st.integers(0, 10**9))
@settings(max_examples=40, deadline=None)
def test_what_always_holds(seed: int) -> None:
    """Random calls, each checked; at the end every sequence ran once, or its request was refused or ended."""
    random, clock = Random(seed), Clock()
    scheduler = Checked(clock, random_policy(random), random.choice([1.0, 0.4]))
    requests: list[Request] = []
    ran: Counter[tuple[Request, int]] = Counter()

    def take() -> bool:
        batch = scheduler.take()
        for entry in batch.entries if batch else ():
            ran[entry.request, entry.index] += 1
        return batch is not None

    for _ in range(80):
        clock.now += random.choice([0.0, 0.0, 0.01, 0.2])
        what = random.random()
        if what < 0.5:
            request = Request(
                random.choice(["m", "m", "other"]),
                [random.choice([1, 10, 30, 150]) for _ in range(random.choice([1, 1, 2, 6]))],
                None,
                priority=random.choice([0, 3, 3, 7]),
                deadline=random.choice([None, None, clock.now + random.uniform(-0.1, 1.0)]),
                client=random.choice("abc"),
            )
            try:
                scheduler.submit(request)
                requests.append(request)
            except Rejected:
                assert request.waiting == len(request.lengths)
        elif what < 0.75:
            take()
        elif what < 0.9 and scheduler.running:
            batch = scheduler.running.pop(random.randrange(len(scheduler.running)))
            scheduler.done(batch, random.choice([0.0, 0.01, 0.1]))
        elif requests:
            scheduler.cancel(random.choice(requests))
    while (due := scheduler.due()) is not None:
        clock.now = max(clock.now, due)
        assert take() or scheduler.due() is None
    scheduler.expire_into()
    for request in requests:
        counts = [ran[request, index] for index in range(len(request.lengths))]
        assert counts == sorted(counts, reverse=True)
        assert set(counts) <= {0, 1}
        assert request.waiting == 0
        assert request.cancelled or sum(counts) == len(counts)
        assert (request in scheduler.gone) <= request.cancelled
    assert len(set(scheduler.gone)) == len(scheduler.gone)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("max_delay", [0.0, 0.02])
def test_no_worker_idles_while_something_is_due(workers: int, max_delay: float) -> None:
    """The simulation fails on it; here all that was accepted has run, in spite of bursts and two models."""
    random = Random(workers)
    policy = Policy(batch_tokens=256, max_delay=max_delay)
    clock, scheduler = made(policy, other=policy)
    simulation = Simulation(clock, scheduler, workers)
    accepted = 0
    for time in poisson(random, 30.0 * workers, 10.0):
        for _ in range(random.choice([1, 1, 5])):
            lengths = [mixed_length(random) for _ in range(random.choice([1, 1, 3]))]
            simulation.arrive(time, Request(random.choice(["m", "other"]), lengths, None, client=random.choice("ab")))
            accepted += len(lengths)
    simulation.run()
    assert len(simulation.ended) == accepted
    assert set(simulation.ran.values()) == {1}
    if max_delay == 0:
        busy = sum(0.01 + 1e-4 * batch.tokens for batch in simulation.batches)
        assert busy <= workers * clock.now


def test_clients_in_closed_loops_get_equal_shares() -> None:
    """One that has 30 requests on their way gets no more than one that has 5, as long as all are busy."""
    clock, scheduler = made(Policy(batch_tokens=256))
    simulation = Simulation(clock, scheduler)
    for client, several in (("a", 30), ("b", 5), ("c", 5)):
        for _ in range(several):
            simulation.loop(lambda client=client: Request("m", [64], None, client=client), 60.0)
    simulation.at(0.0, lambda: None)
    simulation.run()
    tokens: Counter[str] = Counter()
    for (request, _), time in simulation.started.items():
        tokens[request.client] += 64 * (time < 60.0)
    assert max(tokens.values()) <= 1.02 * min(tokens.values())


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("clients", [1, 20])
def test_overload(workers: int, clients: int) -> None:
    """At three times the capacity it stays busy with full batches, and what is accepted does not wait for too long."""
    random = Random(7)
    policy = Policy(batch_tokens=1024, max_wait=0.5, max_queue_tokens=10**6)
    clock, scheduler = made(policy)
    simulation = Simulation(clock, scheduler, workers)
    batch = 0.01 + 1e-4 * 1024
    capacity = workers * 1024 / batch
    for time in poisson(random, 3 * capacity / 100, 20.0):
        simulation.arrive(time, Request("m", [random.randint(10, 190)], None, client=f"{random.randrange(clients)}"))
    simulation.run(20.0)
    done = sum(request.lengths[0] for request, _ in simulation.ended)
    assert done >= 0.9 * capacity * 20.0
    assert percentile(simulation.waits(), 1.0 if clients == 1 else 0.99) <= 0.5 + batch
    assert all(isinstance(reason, QueueFull) for _, reason in simulation.rejected)
    assert percentile(simulation.waits(), 0.5) > 0.25  # it does not refuse too early either


def test_deadlines_under_overload() -> None:
    """Nearly all that is accepted is done by its deadline, and what is not accepted is told so at once."""
    random = Random(8)
    clock, scheduler = made(Policy(batch_tokens=1024, max_queue_tokens=10**6))
    simulation = Simulation(clock, scheduler)
    for time in poisson(random, 300.0, 20.0):
        request = Request("m", [random.randint(10, 190)], None, deadline=time + random.choice([0.3, 1.0]))
        simulation.arrive(time, request)
    simulation.run()
    met = sum(ended <= (request.deadline or 0.0) for (request, _), ended in simulation.ended.items())
    assert met >= 0.97 * len(simulation.accepted)
    assert sum(batch.tokens for batch in simulation.batches) >= 0.9 * 20.0 * 1024 / (0.01 + 1e-4 * 1024)


def throughput(make: Callable[[Clock], Queue], limit: float) -> float:
    """The highest rate of sequences for which 99 % end within `limit` seconds, to 3 %."""
    low, high = 10.0, 3000.0
    while high > 1.03 * low:
        rate, random, clock = (low * high) ** 0.5, Random(11), Clock()
        simulation = Simulation(clock, make(clock), seconds=lambda _, tokens: 0.002 + 2e-5 * tokens)
        for time in poisson(random, rate, 2500 / rate):
            simulation.arrive(time, Request("m", [mixed_length(random)], None))
        simulation.run()
        met = percentile(simulation.latencies(), 0.99) <= limit
        low, high = (rate, high) if met else (low, rate)
    return low


def test_throughput_against_padded_batches() -> None:
    """Batches by tokens without padding carry much more than batches of 8 padded to their longest, at equal p99."""

    def ragged(clock: Clock) -> Queue:
        scheduler = Scheduler(clock)
        scheduler.add("m", Policy(batch_tokens=1024, max_queue_tokens=10**9))
        return scheduler

    assert throughput(ragged, 0.1) >= 1.8 * throughput(lambda clock: Padded(clock, 8), 0.1)
