"""What a measurement depends on: the processor, the system and the versions of packages."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path


def cpu_name() -> str:
    """The processor as its vendor names it, with family and model, since one name may stand for several."""
    fields: dict[str, str] = {}
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            key, separator, value = line.partition(":")
            if separator:
                fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name")
    if name is None:
        return platform.processor() or platform.machine()
    numbers = [
        f"{key} {fields[field]}" for key, field in (("family", "cpu family"), ("model", "model")) if field in fields
    ]
    return f"{name} ({', '.join(numbers)})" if numbers else name


def _memory_gb() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (AttributeError, OSError, ValueError):
        return None


def machine() -> dict[str, str]:
    """Processor, instruction set of the runtime, CPUs, memory and system, ready to print."""
    from fastcpu import _core

    memory = _memory_gb()
    return {
        "CPU": cpu_name(),
        "instruction set of fastcpu": _core.isa_title(_core.selected_isa()),
        "CPUs available": str(_core.available_cpus()),
        "memory": "unknown" if memory is None else f"{memory:.1f} GB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
    }


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The installed version of each distribution; those not installed are left out."""
    found: dict[str, str] = {}
    for name in distributions:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
