"""Quantiles of the histogram against those of numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastcpu.load.histogram import ERROR, HIGHEST, LOWEST, QUANTILES, Histogram

TIMES = st.integers(LOWEST, HIGHEST)


def filled(times: list[int]) -> Histogram:
    histogram = Histogram()
    for time in times:
        histogram.add(time)
    return histogram


@given(st.lists(TIMES, min_size=1, max_size=300), st.floats(0, 1))
def test_quantiles_are_within_the_error(times: list[int], share: float) -> None:
    found = filled(times).quantile(share)
    assert found is not None
    # Shares so near to a step between two times that rounding decides may give either of them.
    near = [np.quantile(times, min(1, max(0, share + off)), method="inverted_cdf") / 1e9 for off in (-1e-10, 0, 1e-10)]
    assert min(abs(found / exact - 1) for exact in near) <= ERROR * (1 + 1e-9)


@given(st.lists(st.integers(0, 10 * HIGHEST), min_size=1, max_size=100))
def test_what_is_exact(times: list[int]) -> None:
    histogram = filled(times)
    assert histogram.count == len(times)
    assert histogram.mean == pytest.approx(sum(times) / len(times) / 1e9)
    assert (histogram.low, histogram.high) == (min(times) / 1e9, max(times) / 1e9)
    assert histogram.quantile(1) == max(times) / 1e9
    assert sum(count for _, count in histogram.buckets()) == len(times)


@given(st.lists(TIMES, max_size=50), st.lists(TIMES, min_size=1, max_size=50))
def test_merging_is_adding(one: list[int], other: list[int]) -> None:
    merged = filled(one)
    merged.merge(filled(other))
    both = filled(one + other)
    assert merged.summary() == both.summary()
    assert merged.buckets() == both.buckets()


def test_quantiles_do_not_fall() -> None:
    histogram = filled([int(time) for time in np.random.default_rng(0).lognormal(15, 2, 5000)])
    found = [histogram.quantile(share) or 0.0 for share in np.linspace(0, 1, 500)]
    assert found == sorted(found)


def test_what_is_outside_is_counted_at_the_ends() -> None:
    histogram = filled([1, 5, HIGHEST * 3])
    assert (histogram.quantile(0.5) or 0) == pytest.approx(LOWEST / 1e9, rel=2 * ERROR)
    assert histogram.high == HIGHEST * 3 / 1e9
    assert [count for _, count in histogram.buckets()] == [2, 1]


def test_without_times() -> None:
    summary = Histogram().summary()
    assert summary.pop("count") == 0
    assert summary == dict.fromkeys(["mean", "min", *QUANTILES, "max"])
    assert Histogram().buckets() == []
