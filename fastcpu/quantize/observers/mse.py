"""The range with the least squared error: clamping outliers is weighed against finer steps for the rest."""

from __future__ import annotations

from dataclasses import dataclass

from fastcpu.errors import QuantizationError
from fastcpu.quantize.histogram import Histogram
from fastcpu.quantize.ranges import quantization, squared_error


@dataclass(frozen=True)
class Mse:
    """Tries to shrink either end of the range, in ``steps`` steps down to ``smallest`` of it."""

    steps: int = 40
    smallest: float = 0.2

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0.0 < self.smallest <= 1.0:
            raise QuantizationError(f"mse: needs steps >= 1 and smallest in (0, 1], not {self}")

    def limits(self, histogram: Histogram, is_symmetric: bool, /) -> tuple[float, float]:
        x, counts = histogram.points()
        factors = [1.0 - (1.0 - self.smallest) * i / self.steps for i in range(self.steps + 1)]

        def error(low: float, high: float) -> float:
            return squared_error(x, counts, quantization(low, high, is_symmetric))

        low, high = histogram.low, histogram.high
        if is_symmetric:
            magnitude = min((max(-low, high) * factor for factor in factors), key=lambda m: error(-m, m))
            return -magnitude, magnitude
        # Both ends at once, then each on its own.
        shared = min(factors, key=lambda factor: error(low * factor, high * factor))
        low, high = low * shared, high * shared
        for _ in range(2):
            low = min((histogram.low * factor for factor in factors), key=lambda value: error(value, high))
            high = min((histogram.high * factor for factor in factors), key=lambda value: error(low, value))
        return low, high
