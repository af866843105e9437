"""Latencies in buckets whose width grows with them: bounded memory, and quantiles with a bounded relative error."""

from __future__ import annotations

import math
from typing import Any

ERROR = 0.005
"""Largest relative error of a quantile between `LOWEST` and `HIGHEST`."""
LOWEST, HIGHEST = 1_000, 100_000_000_000
"""Nanoseconds; what is outside is counted in the first or the last bucket."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}

# Bucket k holds LOWEST * _GROWTH**k up to LOWEST * _GROWTH**(k + 1). The harmonic mean of its ends is as far from
# either, relative to it: (_GROWTH - 1) / (_GROWTH + 1), which is ERROR.
_GROWTH = (1 + ERROR) / (1 - ERROR)
_SCALE = 1 / math.log(_GROWTH)
_OFFSET = math.log(LOWEST) * _SCALE
_LAST = math.ceil(math.log(HIGHEST) * _SCALE - _OFFSET) - 1


class Histogram:
    """Counts of times in nanoseconds; count, mean, lowest and highest are exact."""

    __slots__ = ("_counts", "_high", "_low", "_total", "count")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._total = 0
        self._low = 1 << 63
        self._high = -1
        self.count = 0

    def add(self, nanoseconds: int) -> None:
        place = min(int(math.log(nanoseconds) * _SCALE - _OFFSET), _LAST) if nanoseconds > LOWEST else 0
        counts = self._counts
        counts[place] = counts.get(place, 0) + 1
        self.count += 1
        self._total += nanoseconds
        self._high = max(self._high, nanoseconds)
        self._low = min(self._low, nanoseconds)

    def merge(self, other: Histogram) -> None:
        """Adds what another has counted."""
        for place, count in other._counts.items():
            self._counts[place] = self._counts.get(place, 0) + count
        self.count += other.count
        self._total += other._total
        self._low = min(self._low, other._low)
        self._high = max(self._high, other._high)

    def quantile(self, share: float) -> float | None:
        """Seconds within which a share (0 to 1) of the times lie: the least time that so many do not exceed.

        The relative error is at most `ERROR`; None where nothing was counted.
        """
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count - 1e-9))
        if rank >= self.count:
            return self._high / 1e9
        for place in sorted(self._counts):
            rank -= self._counts[place]
            if rank <= 0:
                break
        low = LOWEST * _GROWTH**place
        middle = 2 * low * _GROWTH / (1 + _GROWTH)
        return min(max(middle, self._low), self._high) / 1e9

    @property
    def mean(self) -> float | None:
        """Seconds; None where nothing was counted."""
        return self._total / self.count / 1e9 if self.count else None

    @property
    def low(self) -> float | None:
        """Seconds; None where nothing was counted."""
        return self._low / 1e9 if self.count else None

    @property
    def high(self) -> float | None:
        """Seconds; None where nothing was counted."""
        return self._high / 1e9 if self.count else None

    def summary(self) -> dict[str, Any]:
        """Count, and in seconds mean, lowest, quantiles and highest."""
        quantiles = {name: self.quantile(share) for name, share in QUANTILES.items()}
        return {"count": self.count, "mean": self.mean, "min": self.low, **quantiles, "max": self.high}

    def buckets(self) -> list[list[float]]:
        """Upper end in seconds and count of every bucket that holds something, in order."""
        return [
            [round(LOWEST * _GROWTH ** (place + 1) / 1e9, 9), self._counts[place]] for place in sorted(self._counts)
        ]
