"""A bare Session in a process that is pinned to one CPU, and what a server process takes of the machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.environments import ROOT

_RUNNER = """
import json, os, sys, time
import numpy as np
import fastcpu
directory, cpu, threads, output = sys.argv[1:]
os.sched_setaffinity(0, [int(each) for each in cpu.split(",")])
session = fastcpu.Session(directory, threads=int(threads))
names = {spec.role: spec.name for spec in session.inputs}
for line in sys.stdin:
    ids, batch, seconds = json.loads(line)
    rows = [np.array(each, np.int64) for each in ids]
    feeds = []
    for first in range(0, len(rows) - batch + 1, batch):
        part = rows[first : first + batch]
        feeds.append({names["ids"]: part})
        if "types" in names:
            feeds[-1][names["types"]] = [np.zeros_like(row) for row in part]
    for feed in feeds[:20]:
        session.run(feed, outputs=[output])
    runs, began, busy = 0, time.monotonic(), time.process_time()
    while time.monotonic() < began + seconds:
        session.run(feeds[runs % len(feeds)], outputs=[output])
        runs += 1
    elapsed, busy = time.monotonic() - began, time.process_time() - busy
    print(json.dumps({"texts_per_second": runs * batch / elapsed, "cpu": busy / (runs * batch)}), flush=True)
"""


class RawSession:
    """A Session without anything around it: token ids in, arrays out.

    Args:
        directory: of the model.
        cpus: that it runs on.
        threads: per run.
        output: which one it computes.
    """

    def __init__(self, directory: Path, cpus: Sequence[int], threads: int, output: str) -> None:
        command = [sys.executable, "-c", _RUNNER, str(directory), ",".join(map(str, cpus)), str(threads), output]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ}
        )

    def run(self, ids: Sequence[Sequence[int]], batch: int, seconds: float) -> dict[str, float]:
        """Runs batches of the texts for that long: `texts_per_second`, and `cpu` seconds per text."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([[list(each) for each in ids], batch, seconds]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the session ended with status {self._process.wait()}")
        found: dict[str, float] = json.loads(line)
        return found

    def __enter__(self) -> RawSession:  # noqa: PYI034  (Self is new in Python 3.11)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise RuntimeError(f"process {pid} has no memory: it has ended")
    return int(found[1]) * 1024


def metric(url: str, name: str) -> float:
    """The sum over all labels of a metric of our server."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    values = [float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}(\{{| )", line)]
    return sum(values)


def status(url: str) -> Any:
    """What the server says of itself."""
    with urllib.request.urlopen(f"{url}/status", timeout=10) as response:
        return json.load(response)
