"""The threads that run batches, and the way from a waiting request to its results."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastcpu.errors import InputError
from fastcpu.serve.problems import Gone, Problem, stopping
from fastcpu.serve.request import Batch, Request, TooLate, Waiting
from fastcpu.serve.scheduler import Scheduler
from fastcpu.tasks.engine import Engine, Rows, run_rows
from fastcpu.tasks.task import Work

_PATIENCE = 0.03
"""Seconds after which a waiting request begins to look whether whoever asked is still there."""

Parts = dict["Job", list[int]]
"""Which sequences of which jobs run together."""

Observer = Callable[[Batch, float, float], None]
"""Is told of every batch: itself, the seconds that it took, and those that the CPU of its thread did."""


class Job:
    """Work that waits or runs.

    Attributes:
        future: of the results.
        queued, began: when it was submitted, and when its first sequence began to run.
    """

    __slots__ = ("began", "engine", "error", "future", "left", "loop", "queued", "work")

    def __init__(self, engine: Engine, work: Work[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[list[Any]] = loop.create_future()
        self.left = len(work.sequences)
        self.error: Exception | None = None
        self.queued = time.monotonic()
        self.began = 0.0


Finished = dict[asyncio.AbstractEventLoop, list[tuple[Job, list[Any] | None]]]
"""Jobs that are complete with their results, by the event loop that waits for them."""


class Executor:
    """Runs what the scheduler chooses, each batch in one of a few threads.

    Args:
        scheduler: on the clock time.monotonic; from now on only to be used through this object.
        instances: how many batches run at the same time.
        observe: called in the threads, and must not fail.
    """

    def __init__(self, scheduler: Scheduler, instances: int, observe: Observer) -> None:
        self._scheduler = scheduler
        self._changed = threading.Condition()
        self._observe = observe
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"fastcpu-run-{number}", daemon=True)
            for number in range(instances)
        ]
        for thread in self._threads:
            thread.start()

    def locked(self, function: Callable[[Scheduler], Any]) -> Any:
        """What `function` gives for the scheduler, while nobody else uses it."""
        with self._changed:
            return function(self._scheduler)

    def waiting(self, lane: str) -> Waiting:
        """What waits in the queue of a model."""
        with self._changed:
            return self._scheduler.waiting(lane)

    async def run(
        self,
        lane: str,
        engine: Engine,
        work: Work[Any],
        *,
        priority: int,
        deadline: float | None,
        client: str,
        left: Callable[[], Coroutine[Any, Any, None]],
    ) -> tuple[list[Any], Job]:
        """The results of `work`, when they are there. If the caller is cancelled, what still waits never runs.

        Args:
            lane: queue of the scheduler.
            engine: what runs the batches.
            work: of one request.
            priority, deadline, client: as in `Request`.
            left: returns when whoever asked has left.

        Raises:
            Rejected: the scheduler refuses it, or the deadline passes.
            Gone: whoever asked has left.
            FastcpuError: the model cannot run it.
        """
        loop = asyncio.get_running_loop()
        job = Job(engine, work, loop)
        if not work.sequences:
            return work.results(), job
        lengths = [len(sequence.ids) for sequence in work.sequences]
        request = Request(lane, lengths, job, priority=priority, deadline=deadline, client=client)
        with self._changed:
            if self._closed:
                raise stopping()
            self._scheduler.submit(request)
            self._changed.notify()
        watch = _Watch(job, left)
        timers = [loop.call_later(_PATIENCE, watch.start)]
        if deadline is not None:
            timers.append(loop.call_later(max(0.0, deadline - time.monotonic()), _pass_deadline, job))
        try:
            return await job.future, job
        finally:
            for timer in timers:
                timer.cancel()
            watch.stop()
            if request.waiting:
                with self._changed:
                    self._scheduler.cancel(request)

    def close(self) -> None:
        """Ends the threads after what runs now."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while self._step():
            pass

    def _step(self) -> bool:
        """Waits for a batch and runs it; False if none will come. Nothing of it is kept afterwards."""
        batch = self._next()
        if batch is None:
            return False
        began, busy = time.monotonic(), time.thread_time()
        finished, failed = self._run(batch, began)
        seconds, busy = time.monotonic() - began, time.thread_time() - busy
        for loop, jobs in finished.items():
            loop.call_soon_threadsafe(_deliver, jobs)
        with self._changed:
            self._scheduler.done(batch, 0.0 if failed else seconds)
        self._observe(batch, seconds, busy)
        return True

    def _next(self) -> Batch | None:
        with self._changed:
            while not self._closed:
                batch = self._scheduler.take()
                for request in self._scheduler.expire():
                    late: Job = request.payload  # type: ignore[assignment]
                    late.loop.call_soon_threadsafe(_pass_deadline, late)
                if batch is not None:
                    if len(self._threads) > 1 and self._scheduler.due() is not None:
                        self._changed.notify()  # there is work for another thread, too
                    return batch
                due = self._scheduler.due()
                self._changed.wait(None if due is None else max(0.0, due - time.monotonic()))
        return None

    def _run(self, batch: Batch, began: float) -> tuple[Finished, bool]:
        """Runs a batch and gives the jobs that it completes, by event loop, and whether it failed."""
        parts: Parts = {}
        for entry in batch.entries:
            parts.setdefault(entry.request.payload, []).append(entry.index)  # type: ignore[arg-type]
        failed = not _take(parts)
        complete = []
        with self._changed:
            for job, indices in parts.items():
                job.began = job.began or began
                job.left -= len(indices)
                if job.left == 0 or job.error is not None:
                    complete.append(job)
        finished: Finished = {}
        for job in complete:
            results = None
            if job.error is None:
                try:
                    results = job.work.results()
                except Exception as error:  # noqa: BLE001  (whatever it is, who waits is told)
                    job.error = _failure(error)
            finished.setdefault(job.loop, []).append((job, results))
        return finished, failed


def _take(parts: Parts) -> bool:
    """Runs sequences and gives their rows to their jobs, whether that went well at once.

    A job that cannot be run has its error afterwards.
    """
    try:
        found = _rows(parts)
    except Exception as error:  # noqa: BLE001  (whatever it is, those who wait are told)
        if len(parts) == 1:
            for job in parts:
                job.error = _failure(error)
        else:  # one of them is to blame: each runs alone
            for job, indices in parts.items():
                _take({job: indices})
        return False
    for (job, indices), rows in zip(parts.items(), found, strict=True):
        if job.error is None:
            try:
                job.work.take(indices, rows)
            except Exception as error:  # noqa: BLE001
                job.error = _failure(error)
    return True


def _rows(parts: Parts) -> list[tuple[Rows, ...]]:
    """The rows that each job needs, of all sequences, which run together."""
    names = tuple(dict.fromkeys(name for job in parts for name in job.work.outputs))
    sequences = [job.work.sequences[index] for job, indices in parts.items() for index in indices]
    found = dict(zip(names, run_rows(next(iter(parts)).engine, sequences, names), strict=True))
    cut = []
    start = 0
    for job, indices in parts.items():
        stop = start + len(indices)
        cut.append(tuple(found[name][start:stop] for name in job.work.outputs))
        start = stop
    return cut


def _failure(error: Exception) -> Exception:
    """What is told to whoever waits for a run that failed. Nothing is wrong with the request: it was checked before."""
    if not isinstance(error, InputError):
        return error
    problem = Problem(500, "model_failed", str(error))
    problem.__cause__ = error
    return problem


class _Watch:
    """Looks whether whoever asked for a job is still there; most jobs are done before that begins."""

    __slots__ = ("_job", "_left", "_task")

    def __init__(self, job: Job, left: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._job = job
        self._left = left
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._job.loop.create_task(self._wait())

    async def _wait(self) -> None:
        await self._left()
        if not self._job.future.done():
            self._job.future.set_exception(Gone())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


def _pass_deadline(job: Job) -> None:
    if not job.future.done():
        job.future.set_exception(TooLate("the deadline has passed", 0.0))


def _deliver(finished: Sequence[tuple[Job, list[Any] | None]]) -> None:
    """Ends the futures of jobs, in the thread of their event loop."""
    for job, results in finished:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(results or [])
