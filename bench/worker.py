"""The process of one engine: answers requests that come over its standard input, on the CPUs it is pinned to.

Started by `bench.client`; the protocol is `bench.wire`, one reply to each request. Replies go to what was standard
output at the start; anything the engine prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import wire
from bench.inputs import Feeds, Shape

PR_SET_PDEATHSIG = 1


def time_runs(run: Any, feeds: Sequence[Feeds], seconds: float, warmup_seconds: float) -> dict[str, Any]:
    """Runs `run` on `feeds` in rotation for at least `seconds` after a warm-up of at least one run.

    Returns "runs", "seconds", and of single runs "best_seconds" and "median_seconds".
    """
    began = time.perf_counter()
    index = 0
    while index == 0 or time.perf_counter() - began < warmup_seconds:
        run(feeds[index % len(feeds)])
        index += 1
    stamps = [time.perf_counter()]
    while len(stamps) == 1 or stamps[-1] - stamps[0] < seconds:
        run(feeds[index % len(feeds)])
        index += 1
        stamps.append(time.perf_counter())
    single = sorted(after - before for before, after in itertools.pairwise(stamps))
    return {
        "runs": len(single),
        "seconds": stamps[-1] - stamps[0],
        "best_seconds": single[0],
        "median_seconds": single[len(single) // 2],
    }


class Worker:
    """Handles requests for one engine."""

    def __init__(self, engine_name: str, cpus: Sequence[int]) -> None:
        """`engine_name` as `bench.e2e.find_engine` takes it."""
        self._engine_name = engine_name
        self._cpus = tuple(cpus)
        self._engine: Any = None
        self._feeds: list[Feeds] = []

    def handle(self, request: dict[str, Any], groups: list[Feeds]) -> tuple[dict[str, Any], list[Any]]:
        """The reply to `request`, whose "do" names one of the methods below."""
        handler = getattr(self, f"do_{request.pop('do')}")
        reply: tuple[dict[str, Any], list[Any]] = handler(groups, **request)
        return reply

    def do_prepare(self, _: list[Feeds], model: str, cache: str, options: dict[str, str]) -> Any:
        """Makes the engine and lets it prepare the model in directory `model`."""
        from bench.e2e import find_engine
        from bench.models import load_prepared

        self._engine = find_engine(self._engine_name)(options)
        self._engine.prepare(load_prepared(Path(model)), Path(cache))
        return {"precision": self._engine.precision}, []

    def do_load(self, _: list[Feeds], threads: int) -> Any:
        """Loads the engine; the versions of its packages."""
        from bench.machine import package_versions

        self._engine.load(threads)
        return {"versions": package_versions(self._engine.packages)}, []

    def do_feeds(self, groups: list[Feeds]) -> Any:
        """Takes the inputs for the requests that follow."""
        self._feeds = groups
        return {}, []

    def do_variants(self, _: list[Feeds], shape: str) -> Any:
        """The engine's variants at `shape`."""
        return {"variants": list(self._engine.variants(Shape.parse(shape)))}, []

    def do_use(self, _: list[Feeds], variant: str, shape: str) -> Any:
        """Switches to a variant."""
        self._engine.use(variant, Shape.parse(shape))
        return {"info": self._engine.info()}, []

    def do_answers(self, _: list[Feeds]) -> Any:
        """One group of outputs for each input."""
        return {}, [self._engine.run(feeds) for feeds in self._feeds]

    def do_reference(self, _: list[Feeds]) -> Any:
        """The same of the engine's own reference; no groups if it is held to the benchmark's."""
        answers = [self._engine.reference(feeds) for feeds in self._feeds]
        return {}, [one for one in answers if one is not None]

    def do_time(self, _: list[Feeds], seconds: float, warmup_seconds: float) -> Any:
        """Times runs and reports what share of the CPUs other processes took meanwhile."""
        from bench.machine import ForeignLoad

        gc.collect()
        load = ForeignLoad(self._cpus)
        return time_runs(self._engine.run, self._feeds, seconds, warmup_seconds) | {"foreign_share": load.share()}, []


def serve(engine_name: str, cpus: Sequence[int], requests: int, replies: int) -> None:
    """Answers requests from descriptor `requests` until it closes; an exception becomes a reply with "error"."""
    worker = Worker(engine_name, cpus)
    while True:
        try:
            request, groups = wire.receive(requests)
        except EOFError:
            return
        try:
            header, arrays = worker.handle(request, groups)
        except Exception as error:  # noqa: BLE001  (any failure of an engine is reported, not fatal to the benchmark)
            traceback.print_exc()
            header, arrays = {"error": f"{type(error).__name__}: {error}"}, []
        wire.send(replies, header, arrays)


def main(argv: list[str]) -> None:
    """Arguments: engine name, comma-separated CPU numbers."""
    engine_name, cpu_list = argv
    cpus = [int(cpu) for cpu in cpu_list.split(",")]
    if sys.platform == "linux":
        os.sched_setaffinity(0, cpus)
        # A worker is usually stopped, so it could not notice by itself that the benchmark was killed.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    replies = os.dup(1)
    os.dup2(2, 1)
    serve(engine_name, cpus, 0, replies)


if __name__ == "__main__":
    main(sys.argv[1:])
