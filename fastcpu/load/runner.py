"""Runs plans, in one thread and one event loop."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from time import monotonic_ns
from typing import Any

from fastcpu.collection import no_collection
from fastcpu.errors import InputError, MissingPackageError
from fastcpu.load.plan import Plan
from fastcpu.load.recorder import Recorder
from fastcpu.load.result import Result
from fastcpu.load.usage import Usage

_HEAD_START = 5_000_000  # nanoseconds from the end of all preparations to the first possible arrival


def run(plan: Plan, *, keep_interrupted: bool = False) -> Result:
    """Runs a plan. Whatever the server answers is a result; as long as it takes a connection, nothing is raised.

    Args:
        plan: what to do.
        keep_interrupted: SIGINT ends the run, and what there is until then is the result; otherwise it raises
            KeyboardInterrupt, as it does in threads other than the main one.

    Raises:
        InputError: no connection can be made before the run.
        MissingPackageError: httptools is not installed.
    """
    return run_many([plan], keep_interrupted=keep_interrupted)[0]


def run_many(plans: Sequence[Plan], *, keep_interrupted: bool = False) -> list[Result]:
    """Runs plans side by side, all from the same moment on; as `run` otherwise."""
    keep = keep_interrupted and _interrupts_here()
    loop = _new_loop()
    failures: list[BaseException] = []
    task = loop.create_task(_drive(plans, keep))

    def fail(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        failures.append(context.get("exception") or RuntimeError(context["message"]))
        task.cancel()

    loop.set_exception_handler(fail)  # what is raised in what the event loop calls must end the run
    try:
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        if not failures:
            raise
        raise failures[0] from None
    finally:
        if not task.done():  # interrupted
            task.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    """That of uvloop if it is installed: it takes half the time."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _interrupts_here() -> bool:
    """Whether SIGINT comes to this thread as KeyboardInterrupt: it may be ignored, or somebody else's."""
    main = threading.current_thread() is threading.main_thread()
    return main and signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def drive(plans: Sequence[Plan]) -> list[Result]:
    """As `run_many`, within an event loop that runs already. What else runs in it makes the requests late."""
    return await _drive(plans, keep_interrupted=False)


async def _drive(plans: Sequence[Plan], keep_interrupted: bool) -> list[Result]:
    try:
        from fastcpu.load.loops import ClosedLoop, OpenLoop
    except ImportError as error:
        if error.name != "httptools":
            raise
        raise MissingPackageError("load runs need the package 'httptools' (pip install fastcpu[serve])") from error
    if not plans:
        raise InputError("there is nothing to run")
    loop = asyncio.get_running_loop()
    recorders = [Recorder() for _ in plans]
    runners: list[OpenLoop | ClosedLoop] = []
    try:
        for plan, recorder in zip(plans, recorders, strict=True):
            address = plan.target.connectable(plan.timeout), plan.target.port
            kind = OpenLoop if plan.rate is not None else ClosedLoop
            runners.append(kind(plan, loop, address, recorder))
        gc.collect()
        with no_collection():  # it would hold up everything for milliseconds
            started, usage = datetime.now(timezone.utc), Usage()
            origin = monotonic_ns() + _HEAD_START
            for runner in runners:
                runner.begin(origin)
            end = loop.call_later(max(plan.warmup + plan.duration for plan in plans), usage.stop)
            with _interruption(loop, [runner.interrupt for runner in runners] if keep_interrupted else []):
                await asyncio.gather(*(runner.finished for runner in runners))
            usage.stop()
            end.cancel()
    finally:
        for runner in runners:
            await runner.close()
    name = type(loop).__module__.partition(".")[0]
    return [
        Result(plan, recorder, runner.client, started.isoformat(timespec="seconds"), usage, name)
        for plan, recorder, runner in zip(plans, recorders, runners, strict=True)
    ]


@contextmanager
def _interruption(loop: asyncio.AbstractEventLoop, actions: Sequence[Callable[[], None]]) -> Iterator[None]:
    """The first SIGINT calls the actions, if there are any; each later one is a KeyboardInterrupt again."""

    def interrupt() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        for action in actions:
            action()

    if actions:
        loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if actions:
            loop.remove_signal_handler(signal.SIGINT)
