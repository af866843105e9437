"""What the device that trains multiplies in bf16."""

from __future__ import annotations

from functools import cache
from pathlib import Path


def has_bf16(device: str) -> bool:
    """True if a type of device, ``cpu`` or ``cuda``, multiplies bf16 natively."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpu_flags())


def has_tiles() -> bool:
    """True if this CPU multiplies tiles of bf16 (AMX), of which torch makes use."""
    return "amx_bf16" in _cpu_flags()


@cache
def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
