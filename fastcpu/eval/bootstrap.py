"""Percentile bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95
_BLOCK, _DRAWN = 100, 1 << 20  # resamples, and examples of theirs, drawn at once; bounds memory

FloatArray = npt.NDArray[np.float64]


Statistic = Callable[[npt.NDArray[np.int64]], FloatArray]
"""A statistic of samples of the examples: their indices [..., size] -> [...]."""


@dataclass(frozen=True)
class Interval:
    """An estimate from the whole sample and the bounds of its interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def _draws(size: int, resamples: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Blocks [block, size] of indices, `resamples` rows together. The same for every sample of this size and seed."""
    generator, block = np.random.default_rng(seed), max(1, min(_BLOCK, _DRAWN // size))
    for start in range(0, resamples, block):
        yield generator.integers(0, size, (min(block, resamples - start), size))


def _interval(value: float, replicates: FloatArray, level: float) -> Interval:
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def mean_interval(values: FloatArray, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL) -> Interval:
    """Interval of the mean of `values`. For a paired comparison give the differences of the two samples."""
    replicates = [values[draw].mean(axis=1) for draw in _draws(len(values), resamples, seed)]
    return _interval(float(values.mean()), np.concatenate(replicates), level)


def statistic_interval(
    statistic: Statistic,
    size: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Interval:
    """Interval of any statistic, which is given the indices of the examples of many resamples, [block, size].

    A resample of which the statistic is NaN, undefined, is left out.
    """
    replicates = np.concatenate([statistic(draw) for draw in _draws(size, resamples, seed)])
    value, defined = float(statistic(np.arange(size))), replicates[~np.isnan(replicates)]
    return _interval(value, defined, level) if len(defined) else Interval(value, value, value)


def difference_interval(a: Statistic, b: Statistic, size: int) -> Interval:
    """Interval of the statistic `a` minus `b`, with the same examples drawn for both."""
    return statistic_interval(lambda rows: a(rows) - b(rows), size)
