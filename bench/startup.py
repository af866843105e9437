"""Size, opening time and resident memory of a model directory, each in a fresh process.

python -m bench.startup DIR [--runs 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

# Runs in a fresh interpreter: what opening adds, in seconds and in bytes of resident memory beyond the interpreter.
_PROBE = """
import json, sys, time
import numpy as np
import fastcpu
from fastcpu import _core
def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096
def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))
from fastcpu.runtime import Session
before = resident()
began = time.perf_counter()
session = Session(sys.argv[1])
opened = time.perf_counter() - began
after = resident()
ids = np.ones((1, 128), np.int64)
feeds = {i.name: ids for i in session.inputs if i.role != "types"}
session.run(feeds)
print(json.dumps({"seconds": opened, "opened": after - before, "ran": resident() - before, "peak": peak() - before}))
"""


def probe(directory: Path) -> dict[str, float]:
    """One fresh process."""
    command = [sys.executable, "-c", _PROBE, str(directory)]
    answer: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return answer


def main() -> None:
    """Print medians over fresh processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    size = sum(path.stat().st_size for path in args.directory.rglob("*") if path.is_file())
    runs = [probe(args.directory) for _ in range(args.runs)]
    median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    result: dict[str, Any] = {"directory_bytes": size, "median": median, "runs": runs}
    print(f"directory          {size / 1e6:8.1f} MB")
    print(f"opening            {median['seconds']:8.3f} s")
    for key, what in (("opened", "resident, opened"), ("ran", "resident, one run"), ("peak", "resident, peak")):
        print(f"{what:18} {median[key] / 1e6:8.1f} MB  {median[key] / size:.2f} x the directory")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
