"""Streaming statistics of one value: bounded memory, whatever the amount of calibration data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import QuantizationError

BINS = 8192
"""Even, so that zero is an edge between bins."""


class Histogram:
    """Counts of equal bins on [-limit, limit].

    The limit is a power of two and grows by doubling, which merges bins in pairs. The counts depend on the
    multiset of values seen, not on how they were split into updates.
    """

    def __init__(self, name: str = "value") -> None:
        self.name = name
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = 0.0
        self.low = np.inf
        self.high = -np.inf

    def update(self, values: NDArray[np.float32]) -> None:
        """Adds values of any shape; QuantizationError if one is NaN or infinite."""
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise QuantizationError(f"value '{self.name}' is NaN or infinite on the calibration data")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._grow(max(-low, high))
        if self.limit > 0.0:
            index = np.floor(values.ravel() * np.float64(BINS / 2 / self.limit)).astype(np.int64) + BINS // 2
            self.counts += np.bincount(index, minlength=BINS)
        else:
            self.counts[BINS // 2] += values.size

    def _grow(self, magnitude: float) -> None:
        """Makes the limit the least power of two above the magnitude."""
        if magnitude < self.limit or magnitude == 0.0:
            return
        limit = float(2.0 ** np.frexp(magnitude)[1])
        while 0.0 < self.limit < limit:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : 3 * BINS // 4] = merged
            self.limit *= 2
        self.limit = limit

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The centres of the bins that hold something, kept within what was seen, and their counts.

        QuantizationError if nothing was seen.
        """
        if self.total == 0:
            raise QuantizationError(f"no calibration data reached value '{self.name}'")
        used = np.flatnonzero(self.counts)
        centres = (used - BINS / 2 + 0.5) * (2 * self.limit / BINS)
        return np.clip(centres, self.low, self.high), self.counts[used].astype(np.float64)

    def quantile(self, fraction: float) -> float:
        """The value below which a fraction of what was seen lies, to the width of a bin."""
        centres, counts = self.points()
        if fraction <= 0.0:
            return self.low
        if fraction >= 1.0:
            return self.high
        return float(centres[np.searchsorted(np.cumsum(counts), fraction * counts.sum())])
