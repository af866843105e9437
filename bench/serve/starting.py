"""What it takes to start a server: seconds until it is ready, and memory when idle.

    python -m bench.serve.starting [--runs 7] [--json FILE]

all-MiniLM-L6-v2, 80 % sparse int8. From the start of the process until /health says that all models answer, and memory
in RAM one second later, before and after a first request.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.machine import describe_machine, git_state, now
from bench.report import write_json
from bench.serve.own import start
from bench.serve.pinned import resident_bytes
from bench.serve.served import served_model


def measure(directory: Path, cpus: list[int], threads: int) -> dict[str, float]:
    """One start."""
    began = time.monotonic()
    server = start(directory, cpus, threads)
    try:
        while True:
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health", timeout=5) as answer,
            ):
                if answer.status == 200:
                    break
            time.sleep(0.002)
        ready = time.monotonic() - began
        time.sleep(1.0)
        idle = resident_bytes(server.pids[0])
        server.embed(["A text."])
        return {"ready_s": ready, "idle_bytes": idle, "used_bytes": resident_bytes(server.pids[0])}
    finally:
        server.close()


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.starting", description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    directory = served_model("minilm", 0.8)
    found: dict[str, Any] = {}
    for name, cpus, threads in (("1 CPU", [0], 1), ("2 CPUs", [0, 1], 2)):
        runs = [measure(directory, cpus, threads) for _ in range(args.runs)]
        found[name] = {key: statistics.median(run[key] for run in runs) for key in runs[0]} | {"runs": runs}
        print(
            f"{name}: ready in {found[name]['ready_s']:.2f} s, {found[name]['idle_bytes'] / 1e6:.0f} MB idle, "
            f"{found[name]['used_bytes'] / 1e6:.0f} MB after a request"
        )
    if args.json:
        write_json(args.json, {"machine": describe_machine(), "git": git_state(Path()), "date": now(), **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
