"""From a request that waits to its results, without a model."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fastcpu.errors import InputError
from fastcpu.serve.executor import Executor
from fastcpu.serve.problems import Gone, Problem
from fastcpu.serve.request import Batch, Policy, QueueFull, TooLate
from fastcpu.serve.scheduler import Scheduler
from fastcpu.tasks.task import Work
from tests.serve.engines import CountingEngine, Gate, sequence, summing


@contextmanager
def executing(instances: int = 1, **policy: Any) -> Iterator[Executor]:
    """An executor with the queue ``m``."""
    scheduler = Scheduler(time.monotonic)
    scheduler.add("m", Policy(**policy))
    executor = Executor(scheduler, instances, lambda *_: None)
    try:
        yield executor
    finally:
        executor.close()


async def stays() -> None:
    """A client that never leaves."""
    await asyncio.Event().wait()


async def run(
    executor: Executor,
    engine: Any,
    work: Work[Any],
    *,
    deadline: float | None = None,
    left: Callable[[], Awaitable[None]] = stays,
    priority: int = 3,
) -> list[Any]:
    options: Any = {"priority": priority, "deadline": deadline, "client": "", "left": left}
    return (await executor.run("m", engine, work, **options))[0]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to pass")


@pytest.mark.parametrize("policy", [{"batch_tokens": 1}, {"batch_tokens": 7}, {"batch_rows": 3}, {}])
@pytest.mark.parametrize("instances", [1, 3])
def test_results_do_not_depend_on_the_batches(policy: dict[str, int], instances: int, rng: np.random.Generator) -> None:
    requests = [
        [rng.integers(1, 100, rng.integers(1, 6)).tolist() for _ in range(rng.integers(1, 9))] for _ in range(40)
    ]

    async def all_of_them() -> list[list[float]]:
        return await asyncio.gather(*(run(executor, engine, summing(*each)) for each in requests))

    engine = CountingEngine()
    with executing(instances, **policy) as executor:
        found = asyncio.run(all_of_them())
    assert found == [[float(sum(each)) for each in request] for request in requests]
    ran = sorted(each for batch in engine.batches for each in batch)
    assert ran == sorted(each for request in requests for each in request)


def test_work_with_other_outputs_shares_a_batch() -> None:
    async def both() -> list[list[float]]:
        return await asyncio.gather(
            run(executor, engine, summing([1, 2], [3, 4])), run(executor, engine, summing([5, 6], output="last"))
        )

    engine = CountingEngine()
    with executing(max_delay=60, batch_rows=3) as executor:
        assert asyncio.run(both()) == [[3, 7], [6]]
    assert len(engine.batches) == 1


def test_work_without_sequences_has_results_at_once() -> None:
    with executing() as executor:
        assert asyncio.run(run(executor, CountingEngine(), Work([], ("sum",), lambda *_: None, lambda: ["x"]))) == ["x"]


def test_a_sequence_that_the_engine_refuses_fails_only_its_request() -> None:
    def refuse(batch: list[list[int]]) -> None:
        if [13] in batch:
            raise MemoryError("no room for 13")

    async def together() -> list[Any]:
        works = [summing([1], [2]), summing([3], [13]), summing([4])]
        return await asyncio.gather(*(run(executor, engine, work) for work in works), return_exceptions=True)

    engine = CountingEngine(refuse)
    with executing(max_delay=60, batch_rows=5) as executor:
        first, second, third = asyncio.run(together())
    assert (first, third) == ([1, 2], [4])
    assert isinstance(second, MemoryError)
    assert len(engine.batches[0]) == 5, "they did not run together"


def test_values_that_are_not_finite_are_the_fault_of_the_server() -> None:
    class Broken(CountingEngine):
        def run(self, batch: Any, outputs: Any = None) -> Any:
            return {name: values * np.nan for name, values in super().run(batch, outputs).items()}

    with executing() as executor, pytest.raises(Problem, match="not finite") as caught:
        asyncio.run(run(executor, Broken(), summing([1])))
    assert caught.value.status == 500
    assert isinstance(caught.value.__cause__, InputError)


@pytest.mark.parametrize("where", ["take", "results"])
def test_work_that_fails_with_its_rows_harms_no_other(where: str) -> None:
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError(where)

    good = summing([1])
    bad = Work([sequence(2)], ("sum",), fail, list) if where == "take" else Work([sequence(2)], ("sum",), print, fail)

    async def together() -> list[Any]:
        both = (run(executor, engine, bad), run(executor, engine, good))
        return await asyncio.gather(*both, return_exceptions=True)

    engine = CountingEngine()
    with executing(max_delay=60, batch_rows=2) as executor:
        failed, found = asyncio.run(together())
    assert isinstance(failed, ZeroDivisionError)
    assert found == [1]


def test_what_is_cancelled_frees_its_place_and_never_runs() -> None:
    gate = Gate()
    engine = CountingEngine(gate)

    async def scenario() -> None:
        first = asyncio.create_task(run(executor, engine, summing([1])))
        await asyncio.to_thread(gate.wait)
        second = asyncio.create_task(run(executor, engine, summing([2], [3])))
        await until(lambda: executor.waiting("m").sequences == 2)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert executor.waiting("m").sequences == 0
        gate.opened.set()
        assert await first == [1]
        assert await run(executor, engine, summing([4])) == [4]

    with executing() as executor:
        asyncio.run(scenario())
    assert engine.batches == [[[1]], [[4]]]


def test_whoever_leaves_frees_his_place() -> None:
    gate = Gate()
    leaves = asyncio.Event()

    async def scenario() -> None:
        first = asyncio.create_task(run(executor, CountingEngine(gate), summing([1])))
        await asyncio.to_thread(gate.wait)
        second = asyncio.create_task(run(executor, CountingEngine(), summing([2]), left=leaves.wait))  # type: ignore[arg-type]
        await until(lambda: executor.waiting("m").sequences == 1)
        leaves.set()
        with pytest.raises(Gone):
            await second
        assert executor.waiting("m").sequences == 0
        gate.opened.set()
        assert await first == [1]

    with executing() as executor:
        asyncio.run(scenario())


def test_a_deadline_ends_what_waits_and_what_runs() -> None:
    gate = Gate()

    async def scenario() -> None:
        soon = time.monotonic() + 1
        running = asyncio.create_task(run(executor, CountingEngine(gate), summing([1]), deadline=soon))
        await asyncio.to_thread(gate.wait)
        waiting = run(executor, CountingEngine(), summing([2]), deadline=time.monotonic() + 1)
        with pytest.raises(TooLate):
            await waiting
        with pytest.raises(TooLate):
            await running
        assert executor.waiting("m").sequences == 0
        with pytest.raises(TooLate):
            await run(executor, CountingEngine(), summing([3]), deadline=time.monotonic() - 1)
        gate.opened.set()

    with executing() as executor:
        asyncio.run(scenario())


def test_a_full_queue_refuses() -> None:
    gate = Gate()

    async def scenario() -> None:
        first = asyncio.create_task(run(executor, CountingEngine(gate), summing([1])))
        await asyncio.to_thread(gate.wait)
        second = asyncio.create_task(run(executor, CountingEngine(), summing([1, 2, 3])))
        await until(lambda: executor.waiting("m").tokens == 3)
        with pytest.raises(QueueFull) as caught:
            await run(executor, CountingEngine(), summing([1, 2]))
        assert caught.value.retry_after > 0
        gate.opened.set()
        assert await asyncio.gather(first, second) == [[1], [6]]

    with executing(max_queue_tokens=4) as executor:
        asyncio.run(scenario())


def test_instances_run_side_by_side() -> None:
    barrier = threading.Barrier(3, timeout=60)

    def meet() -> None:
        barrier.wait()

    engine = CountingEngine(lambda _: meet())

    async def three() -> list[list[float]]:
        return await asyncio.gather(*(run(executor, engine, summing([number])) for number in range(3)))

    with executing(3, batch_rows=1) as executor:
        assert asyncio.run(three()) == [[0], [1], [2]]


def test_the_batches_of_one_request_run_side_by_side() -> None:
    barrier = threading.Barrier(2, timeout=60)

    def meet(_: list[list[int]]) -> None:
        barrier.wait()

    engine = CountingEngine(meet)
    with executing(2, batch_rows=1) as executor:
        assert asyncio.run(run(executor, engine, summing([1], [2]))) == [1, 2]


def test_close_waits_for_what_runs_and_refuses_what_comes() -> None:
    gate = Gate()

    async def scenario() -> None:
        first = asyncio.create_task(run(executor, CountingEngine(gate), summing([1])))
        await asyncio.to_thread(gate.wait)
        closing = asyncio.create_task(asyncio.to_thread(executor.close))
        await asyncio.sleep(0.05)
        assert not closing.done()
        with pytest.raises(Problem, match="stopping"):
            await run(executor, CountingEngine(), summing([2]))
        gate.opened.set()
        await closing
        assert await first == [1]

    with executing() as executor:
        asyncio.run(scenario())


def test_threads_keep_nothing_of_what_they_ran() -> None:
    async def once() -> weakref.ref[CountingEngine]:
        engine = CountingEngine()
        await run(executor, engine, summing([1]))
        return weakref.ref(engine)

    with executing() as executor:
        gone = asyncio.run(once())
        for _ in range(500):
            gc.collect()
            if gone() is None:
                break
            time.sleep(0.01)
        assert gone() is None


def test_requests_whose_deadline_has_passed_are_not_collected() -> None:
    gate = Gate()

    async def scenario() -> weakref.ref[Any]:
        first = asyncio.create_task(run(executor, CountingEngine(gate), summing([1])))
        await asyncio.to_thread(gate.wait)
        engine = CountingEngine()
        late = asyncio.create_task(run(executor, engine, summing([2]), deadline=time.monotonic() + 1))
        await until(lambda: executor.waiting("m").sequences == 1)
        time.sleep(1.1)  # noqa: ASYNC251  (the event loop must not be the first to notice)
        assert executor.waiting("m").sequences == 0
        with pytest.raises(TooLate):
            await late
        gate.opened.set()
        await first
        return weakref.ref(engine)

    with executing() as executor:
        gone = asyncio.run(scenario())
        asyncio.run(run(executor, CountingEngine(), summing([3])))
        gc.collect()
        assert gone() is None


def test_batches_are_observed() -> None:
    seen: list[tuple[Batch, float, float]] = []
    scheduler = Scheduler(time.monotonic)
    scheduler.add("m", Policy())
    executor = Executor(scheduler, 1, lambda *given: seen.append(given))
    asyncio.run(run(executor, CountingEngine(), summing([1, 2], [3])))
    executor.close()
    assert [(batch.tokens, len(batch.entries)) for batch, _, _ in seen] == [(3, 2)]
    assert all(seconds >= 0 and busy >= 0 for _, seconds, busy in seen)


def test_batches_that_fail_teach_no_speed() -> None:
    def fail(_: Any) -> None:
        raise InputError("broken")

    scheduler = Scheduler(time.monotonic)
    scheduler.add("m", Policy())
    executor = Executor(scheduler, 1, lambda *_: None)
    told: list[float] = []
    done = scheduler.done
    scheduler.done = lambda batch, seconds: (told.append(seconds), done(batch, seconds))[1]  # type: ignore[method-assign]
    with pytest.raises(Problem, match="broken"):
        asyncio.run(run(executor, CountingEngine(fail), summing([1])))
    asyncio.run(run(executor, CountingEngine(), summing([1])))
    executor.close()
    assert told[0] == 0
    assert told[1] > 0
