"""The least time that an op can take on this CPU, and what sets it.

An op takes at least as long as its multiplications at the peak of the CPU, as its packed weights at the rate at which
they can be read, and as its inputs and outputs at the rate of L2, all measured in the same run (Williams et al.,
"Roofline", 2009). Weights that fit into the last cache are held against the rate of L2 too, which is more than any
cache behind it gives: what is stated is a bound, even where it is not a tight one.
"""

from __future__ import annotations

import os
from typing import Any

_ELEMENT_BYTES = {"u8": 1, "s8": 1, "f32": 4, "s32": 4}
_OVER_PEAK = {"gemm_u8s8_avx2": 4 / 3, "spmm_u8s8_avx2": 4 / 3}
"""Kernels that can do without multiplications which the peak counts: a quarter of them (docs/decisions/0012)."""
_LIMITS = {"int8": "int8 peak", "f32": "f32 peak"}

Json = dict[str, Any]


def last_cache_bytes() -> int:
    """Bytes of the largest cache; 0 where the system does not say."""
    names = ("SC_LEVEL2_CACHE_SIZE", "SC_LEVEL3_CACHE_SIZE")
    sizes = [os.sysconf(name) for name in names if name in os.sysconf_names]
    return max([0, *sizes])


def _activation_bytes(node: Json, model: Json, tokens: int) -> int:
    """Bytes of an op's inputs and outputs; values of one column per sequence are left out, which a bound may."""
    values = [model["values"].get(name) for name in dict.fromkeys([*node["inputs"], *node["outputs"]])]
    per_token: int = sum(
        value["channels"] * _ELEMENT_BYTES[value["dtype"]]
        for value in values
        if value is not None and value["space"] == "tokens"
    )
    return tokens * per_token


def bound(op: Json, node: Json, model: Json, peak: Json, *, tokens: int, weight_rate: float) -> Json:
    """{"bound_seconds", "bound_by"} of one op, in seconds summed over threads, as `Session.ops` has them.

    Args:
        op: a row of `Session.ops`, with its `precision` ("int8", "f32" or None).
        node: the op in `model`.
        model: what `_core.read_model` returned.
        peak: what `_core.measure_peak` returned; its rates are of all threads together.
        tokens: of the run.
        weight_rate: bytes per second at which packed weights can be read.
    """
    threads = peak["threads"]
    candidates = {
        "L2": _activation_bytes(node, model, tokens) / (peak["l2_gbps"] * 1e9),
        "weights": op["read_bytes"] / weight_rate,
    }
    if op["precision"] is not None:
        rate = peak["int8_gops"] if op["precision"] == "int8" else peak["f32_gflops"]
        rate *= _OVER_PEAK.get(op["kernel"], 1.0)
        candidates[_LIMITS[op["precision"]]] = 2 * op["macs"] / (rate * 1e9)
    by = max(candidates, key=lambda name: candidates[name])
    return {"bound_seconds": candidates[by] * threads, "bound_by": by}


def weight_rate(read_bytes: int, peak: Json) -> float:
    """Bytes per second at which so many bytes of weights can be read at best: from memory if no cache holds them."""
    rate: float = peak["memory_gbps"] if read_bytes > last_cache_bytes() > 0 else peak["l2_gbps"]
    return rate * 1e9
