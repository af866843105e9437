"""The machine a benchmark ran on, the versions it used, and how much of its cores other processes took."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import platform
import re
import resource
import subprocess
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

REPORTED_FLAGS = (
    "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx512_vp2intersect",
    "amx_tile", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip


def _cpu_fields() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n", 1)[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def cpu_key(machine: dict[str, Any]) -> str:
    """Identity of a CPU model, for file names and for deciding whose figures are comparable.

    The marketing name alone is not enough: a virtual machine may call two generations by the same name.
    """
    text = f"{machine['cpu']} f{machine['cpu_family']} m{machine['cpu_model']}".lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def describe_machine() -> dict[str, Any]:
    """CPU, flags of interest, cores, caches and memory (bytes), system and load averages (1, 5, 15 minutes)."""
    fields = _cpu_fields()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / item).read_text().strip() for item in ("level", "type", "size"))
        caches[f"L{level} {kind.lower()}"] = size
    return {
        "cpu": fields.get("model name", platform.processor() or platform.machine()),
        "cpu_family": fields.get("cpu family", ""),
        "cpu_model": fields.get("model", ""),
        "flags": [flag for flag in REPORTED_FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "caches_of_cpu0": caches,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": list(os.getloadavg()),
    }


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """{distribution: version} of those that are installed, with Python's own."""
    found = {"python": platform.python_version()}
    for name in sorted(set(names)):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


_RESULTS = "bench/results"  # what runs write: one does not make the next one dirty


def git_state(directory: Path) -> dict[str, Any]:
    """{"commit": hash, "dirty": whether tracked files other than results differ from it}, or {} outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(directory), "--no-optional-locks", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "-uno", "--", ".", f":!{_RESULTS}")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.CalledProcessError):
        return {}


def now() -> str:
    """This moment in UTC, ISO 8601 with seconds."""
    return dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")


def _busy_seconds(cpus: Sequence[int]) -> float | None:
    """Seconds that `cpus` have been busy or stolen since boot, in steps of 10 ms; None where that is not known."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    wanted = {f"cpu{cpu}" for cpu in cpus}
    ticks = 0
    for line in path.read_text().splitlines():
        name, *values = line.split()
        if name in wanted:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(value) for value in values[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


class ForeignLoad:
    """Share of `cpus` that processes other than this one (and the hypervisor) use, over an interval."""

    def __init__(self, cpus: Sequence[int]) -> None:
        """Starts the interval."""
        self._cpus = tuple(cpus)
        self._start = self._read()

    def _read(self) -> tuple[float, float | None, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), _busy_seconds(self._cpus), usage.ru_utime + usage.ru_stime

    def share(self) -> float | None:
        """Foreign seconds / (seconds since the start x CPUs), 0..1; None where it cannot be measured."""
        began, busy_before, own_before = self._start
        ended, busy_after, own_after = self._read()
        if busy_before is None or busy_after is None or ended <= began:
            return None
        foreign = (busy_after - busy_before) - (own_after - own_before)
        return min(1.0, max(0.0, foreign / ((ended - began) * len(self._cpus))))


def wait_until_quiet(cpus: Sequence[int], limit: float, timeout: float, interval: float = 0.5) -> bool:
    """Waits up to `timeout` s for an `interval` in which others use at most `limit` (0..1) of `cpus`."""
    deadline = time.monotonic() + timeout
    while True:
        load = ForeignLoad(cpus)
        time.sleep(interval)
        share = load.share()
        if share is None or share <= limit:
            return True
        if time.monotonic() >= deadline:
            return False
