"""The arrivals of an open loop are a Poisson process that the seed sets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastcpu.load.loops import draw_arrivals


@pytest.mark.parametrize("rate", [0.5, 20.0, 3000.0])
def test_rate_and_gaps(rate: float, seed: int) -> None:
    seconds = 20_000 / rate
    arrivals = np.array(draw_arrivals(rate, seconds, seed))
    assert abs(len(arrivals) - 20_000) < 6 * math.sqrt(20_000)
    assert arrivals[0] >= 0
    assert arrivals[-1] < seconds * 1e9
    gaps = np.diff(arrivals) * rate / 1e9
    assert gaps.min() >= 0
    # Mean, deviation and the share of short gaps are those of an exponential distribution.
    assert abs(gaps.mean() - 1) < 0.05
    assert abs(gaps.std() - 1) < 0.05
    assert abs((gaps < 0.1).mean() - (1 - math.exp(-0.1))) < 0.02


def test_the_seed_sets_them() -> None:
    assert draw_arrivals(100, 5, 3) == draw_arrivals(100, 5, 3)
    assert draw_arrivals(100, 5, 3) != draw_arrivals(100, 5, 4)


def test_a_longer_time_has_the_same_and_more() -> None:
    short, long = draw_arrivals(5000, 2, 1), draw_arrivals(5000, 9, 1)
    assert long[: len(short)] == short
    assert len(long) > len(short)


def test_a_time_without_arrivals() -> None:
    assert len(draw_arrivals(1e-300, 1, 0)) == 0
