"""What threads bring: two threads over one, two one-thread sessions side by side over one alone, and idling afterwards.

    python -m bench.threads DIR [--shape b8s128] [--rounds 7] [--seconds 2] [--json FILE]

Sessions run in processes of their own, pinned to as many CPUs as they have threads; one, two threads and side by side
take turns. Ratios are taken within a round; medians and quartiles are over rounds. `idle` is the share of one core that
a process uses from 10 ms after its last run on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.compare import pick_cpus
from bench.inputs import Shape
from bench.machine import describe_machine, git_state, now
from bench.report import write_json
from bench.stats import ratio_spread, spread

START_UP = 2.0
"""Seconds for a process to import, open and warm up before it is to start."""

_RUNNER = """
import json, os, sys, time
directory, cpus, batch, sequence, start, seconds = sys.argv[1:]
cpus = [int(cpu) for cpu in cpus.split(",")]
os.sched_setaffinity(0, cpus)
import numpy as np
import fastcpu
session = fastcpu.Session(directory, threads=len(cpus))
random = np.random.default_rng(0)
feeds = {"input_ids": list(random.integers(1000, 2000, (int(batch), int(sequence))))}
for _ in range(3):
    session.run(feeds)
start, seconds = float(start), float(seconds)
late = time.monotonic() - start
time.sleep(max(0.0, -late))
runs = 0
while time.monotonic() < start + seconds:
    session.run(feeds)
    runs += 1
elapsed = time.monotonic() - start
time.sleep(0.01)
busy, began = time.process_time(), time.monotonic()
time.sleep(0.5)
idle = (time.process_time() - busy) / (time.monotonic() - began)
print(json.dumps({"late": late > 0, "rate": runs * int(batch) / elapsed, "idle": idle}))
"""


def run_together(directory: Path, shape: Shape, seconds: float, cpu_sets: Sequence[Sequence[int]]) -> list[Any]:
    """One session on each set of CPUs, all at the same time: sequences per second and idle share of each."""
    start = time.monotonic() + START_UP
    while True:
        processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _RUNNER,
                    str(directory),
                    ",".join(map(str, cpus)),
                    str(shape.batch),
                    str(shape.sequence),
                    repr(start),
                    repr(seconds),
                ],
                stdout=subprocess.PIPE,
            )
            for cpus in cpu_sets
        ]
        outputs = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            raise RuntimeError("a session failed; its error is above")
        answers = [json.loads(output) for output in outputs]
        if not any(answer["late"] for answer in answers):
            return answers
        start = time.monotonic() + 2 * START_UP


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.threads", description=__doc__.split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--shape", type=Shape.parse, default=Shape(8, 128))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    if not args.directory.is_dir():
        parser.error(f"{args.directory} is not a model directory")
    first, second = pick_cpus("", 2)[:2]
    cases = {"one thread": [[first]], "two threads": [[first, second]], "side by side": [[first], [second]]}
    rates: dict[str, list[float]] = {name: [] for name in cases}
    idle: list[float] = []
    for _ in range(args.rounds):
        for name, cpu_sets in cases.items():
            answers = run_together(args.directory, args.shape, args.seconds, cpu_sets)
            rates[name].append(sum(answer["rate"] for answer in answers))
            idle += [answer["idle"] for answer in answers]
    ratios = {name: ratio_spread(rates[name], rates["one thread"]).as_json() for name in cases if name != "one thread"}
    for name, ratio in ratios.items():
        print(f"{name}: {ratio['median']:.2f}x one thread (iqr {ratio['iqr']:.2f})")
    print(f"idle after 10 ms: {max(idle):.2%} of a core at most")
    if args.json:
        document = {
            "date": now(),
            "machine": describe_machine(),
            "git": git_state(Path(__file__).parent),
            "shape": str(args.shape),
            "sequences_per_second": {name: spread(values).as_json() for name, values in rates.items()},
            "ratios": ratios,
            "idle": max(idle),
        }
        write_json(args.json, document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
