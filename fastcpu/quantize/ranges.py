"""From the range of a value to its scale and zero point, and the error that rounding to u8 makes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.ir import Quantization

SYMMETRIC_ZERO_POINT = 128

_SMALLEST_SCALE = 1e-30
"""A value that stays below this many steps of nothing is constant zero for our purposes; its scale is 1."""


def affine(low: float, high: float) -> Quantization:
    """u8 with any zero point; zero is always representable."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32((high - low) / 255))
    if scale < _SMALLEST_SCALE:
        return Quantization(1.0, 0)
    return Quantization(scale, int(np.clip(np.rint(-low / scale), 0, 255)))


def symmetric(low: float, high: float) -> Quantization:
    """u8 with zero point 128: the s8 value of a product is ``q xor 0x80``."""
    scale = float(np.float32(max(-low, high) / 127))
    return Quantization(scale if scale >= _SMALLEST_SCALE else 1.0, SYMMETRIC_ZERO_POINT)


def quantization(low: float, high: float, is_symmetric: bool) -> Quantization:
    return symmetric(low, high) if is_symmetric else affine(low, high)


def to_u8(x: NDArray[Any], q: Quantization) -> NDArray[np.float64]:
    """Levels as floats, rounded and clamped."""
    return np.asarray(np.clip(np.rint(x / q.scale) + q.zero_point, 0, 255))


def round_trip(x: NDArray[Any], q: Quantization) -> NDArray[np.float64]:
    """What u8 makes of x."""
    return np.asarray((to_u8(x, q) - q.zero_point) * q.scale)


def squared_error(x: NDArray[np.float64], counts: NDArray[np.float64], q: Quantization) -> float:
    """Sum over a histogram's points of the squared rounding and clamping error."""
    return float(counts @ (x - round_trip(x, q)) ** 2)


def relative_squared_error(x: NDArray[np.float64], counts: NDArray[np.float64], q: Quantization) -> float:
    """The same, relative to the squares; 0 where all are zero."""
    squares = float(counts @ x**2)
    return squared_error(x, counts, q) / squares if squares else 0.0
