"""Activation functions of int8 layers as tables from u8 to u8."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastcpu import _core
from fastcpu.graph.ir import Quantization
from fastcpu.quantize.histogram import Histogram
from fastcpu.quantize.ranges import affine, to_u8

F64 = NDArray[np.float64]


def _gelu(x: F64) -> F64:
    return np.asarray(0.5 * x * (1 + _core.erf(x / math.sqrt(2))))


def _gelu_tanh(x: F64) -> F64:
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


ACTIVATIONS: dict[str, Callable[[F64], F64]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "tanh": np.tanh,
}


@dataclass(frozen=True)
class ActivationTable:
    """``table[q]`` is the u8 output for the u8 input ``q``.

    ``error`` is the squared error of the output on what was observed, relative to its squares.
    """

    input: Quantization
    output: Quantization
    table: NDArray[np.uint8]
    error: float


def make_table(activation: str, source: Quantization, target: Quantization) -> NDArray[np.uint8]:
    """The 256 entries, computed in double precision."""
    x = (np.arange(256, dtype=np.float64) - source.zero_point) * source.scale
    return to_u8(ACTIVATIONS[activation](x), target).astype(np.uint8)


def _spans(start: float, steps: int) -> list[float]:
    """From the observed end towards zero; the last one still leaves a little room."""
    return [start * (1.0 - i / (steps + 1)) for i in range(steps + 1)]


def fit_table(activation: str, before: Histogram, limits: tuple[float, float], steps: int = 24) -> ActivationTable:
    """The table with the least squared error of the activation's output, over input ranges within the limits.

    Where the activation is flat (the long negative tail of GELU, both ends of tanh) a clamped input costs nothing, so
    no levels are spent there. The output range is that of the activation on the input range.
    """
    x, counts = before.points()
    exact = ACTIVATIONS[activation](x)
    squares = float(counts @ exact**2) or 1.0
    best: tuple[float, ActivationTable] | None = None
    for low in _spans(min(limits[0], 0.0), steps):
        for high in _spans(max(limits[1], 0.0), steps):
            source = affine(low, high)
            reached = ACTIVATIONS[activation](np.linspace(low, high, 257))
            target = affine(float(reached.min()), float(reached.max()))
            table = make_table(activation, source, target)
            outcome = (table[to_u8(x, source).astype(np.uint8)] - float(target.zero_point)) * target.scale
            error = float(counts @ (outcome - exact) ** 2)
            if best is None or error < best[0]:
                best = error, ActivationTable(source, target, table, error / squares)
    assert best is not None
    return best[1]
