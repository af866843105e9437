"""All of what was seen: no clamping on the calibration data."""

from __future__ import annotations

from dataclasses import dataclass

from fastcpu.quantize.histogram import Histogram


@dataclass(frozen=True)
class MinMax:
    """The lowest and the highest value seen."""

    def limits(self, histogram: Histogram, _is_symmetric: bool, /) -> tuple[float, float]:
        histogram.points()
        return histogram.low, histogram.high
