"""Nearly all of what was seen: a few outliers are clamped."""

from __future__ import annotations

from dataclasses import dataclass

from fastcpu.errors import QuantizationError
from fastcpu.quantize.histogram import Histogram


@dataclass(frozen=True)
class Percentile:
    """The central ``fraction`` of the values: half of the rest is clamped at each end.

    Transformers have a few channels whose values are far from all others and matter. One channel in 1000 is 0.1 % of
    the values, so a fraction that clamps that many destroys the model; the default stays far away from that.
    """

    fraction: float = 0.99999

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction <= 1.0:
            raise QuantizationError(f"percentile: fraction must be in (0, 1], not {self.fraction}")

    def limits(self, histogram: Histogram, _is_symmetric: bool, /) -> tuple[float, float]:
        tail = (1.0 - self.fraction) / 2
        return histogram.quantile(tail), histogram.quantile(1.0 - tail)
