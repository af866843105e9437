"""A server that is asked for three times what it can do.

    python -m bench.serve.overload [--seconds 120] [--check] [--json FILE]

DistilBERT, 80 % sparse int8, texts of 128 tokens; server on one CPU with one thread, generator on another. Reports the
goodput beside the capacity that closed loops reach before, the CPU time of a request (most are refused) beyond that of
the Session's runs, how soon refusals come, how the server's memory grows after the first minute (or the first half of
shorter runs), and p99 at half the capacity from two seconds after the overload.
With --check, the exit status is 1 if anything but times is wrong: a request without an answer, an answer that is
neither a result nor a refusal, no refusal at all, or memory that grows by 2 % or more.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench.machine import describe_machine, git_state, now
from bench.report import write_json
from bench.serve.latency import PROTOCOLS
from bench.serve.overhead import CLIENT_CPU, SERVER_CPU
from bench.serve.own import MODEL, start
from bench.serve.pinned import cpu_seconds, metric, resident_bytes
from bench.serve.served import served_model
from fastcpu.load import Plan, Result, make_corpus, run

LOAD = 3.0
WARMUP = 0.5  # seconds
RECOVERY = 2.0
GROWTH = 0.02
_STATUSES = {200, 429, 503}


class _Memory:
    """Watches the memory of a process in a thread."""

    def __init__(self, pid: int) -> None:
        self.samples: list[tuple[float, int]] = []
        self._ended = threading.Event()
        self._pid = pid
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.samples.append((time.monotonic() - self._began, resident_bytes(self._pid)))

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def growth(self, after: float) -> float:
        """The most memory after that many seconds, over what there was then, less 1."""
        later = [size for moment, size in self.samples if moment >= after]
        return max(later) / later[0] - 1


def measure(seconds: float) -> dict[str, Any]:
    """All figures."""
    directory = served_model("distilbert-cls", 0.8)
    corpus = make_corpus(tokens=128, tokenizer=directory)
    protocol, encoding = PROTOCOLS["distilbert-cls"]
    with start(directory, [SERVER_CPU]) as server:
        url = f"http://127.0.0.1:{server.port}"

        def loaded(duration: float, warmup: float = WARMUP, **load: Any) -> Result:
            return run(
                Plan(
                    url,
                    protocol,
                    MODEL,
                    corpus,
                    duration=duration,
                    warmup=warmup,
                    timeout=30.0,
                    encoding=encoding,
                    max_connections=1024,
                    **load,
                )
            )

        def beyond() -> float:
            return cpu_seconds(server.pids[0]) - metric(url, "fastcpu_infer_cpu_seconds_total")

        capacity = loaded(5.0, concurrency=16).good_per_second
        normal = loaded(10.0, rate=0.5 * capacity)
        memory = _Memory(server.pids[0])
        before = beyond()
        heavy = loaded(seconds, rate=LOAD * capacity)
        spent = beyond() - before
        memory.stop()
        time.sleep(RECOVERY)
        after = loaded(10.0, warmup=0.0, rate=0.5 * capacity, seed=1)
    statuses = dict(heavy.recorder.statuses)
    return {
        "capacity": capacity,
        "offered": heavy.recorder.sent / heavy.seconds,
        "goodput": heavy.good_per_second,
        "goodput_share": heavy.good_per_second / capacity,
        "beyond_us": 1e6 * spent / heavy.recorder.sent * heavy.seconds / (WARMUP + heavy.seconds),
        "statuses": statuses,
        "unexpected": {key: count for key, count in statuses.items() if key not in _STATUSES},
        "errors": dict(heavy.recorder.errors),
        "latency_p99_ms": 1e3 * (heavy.recorder.latency.quantile(0.99) or 0),
        "refusal_p50_ms": 1e3 * (heavy.recorder.refusal_latency.quantile(0.5) or 0),
        "refusal_p99_ms": 1e3 * (heavy.recorder.refusal_latency.quantile(0.99) or 0),
        "memory_growth": memory.growth(min(60.0, seconds / 2)),
        "memory_bytes": memory.samples[-1][1],
        "p99_before_ms": 1e3 * (normal.recorder.latency.quantile(0.99) or 0),
        "p99_after_ms": 1e3 * (after.recorder.latency.quantile(0.99) or 0),
        "problems": heavy.problems,
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.overload", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    os.sched_setaffinity(0, [CLIENT_CPU])
    found = measure(args.seconds)
    for key, value in found.items():
        print(f"{key:16} {value:.3f}" if isinstance(value, float) else f"{key:16} {value}")
    if args.json:
        head = {"machine": describe_machine(), "git": git_state(Path()), "date": now(), "seconds": args.seconds}
        write_json(args.json, head | found)
    wrong = _wrong(found)
    for each in wrong:
        print(f"bench.serve.overload: {each}", file=sys.stderr)
    return 1 if args.check and wrong else 0


def _wrong(found: dict[str, Any]) -> list[str]:
    """What must not be, however slow the machine is."""
    wrong = [f"{count} answers with status {status}" for status, count in found["unexpected"].items()]
    wrong += [f"{count} requests without an answer: {kind}" for kind, count in found["errors"].items()]
    if not found["statuses"].get(429):
        wrong.append("nothing was refused")
    if found["memory_growth"] >= GROWTH:
        wrong.append(f"memory grew by {100 * found['memory_growth']:.1f} %")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
