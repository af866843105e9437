"""Histograms, and what single observers promise; tests/conformance has what all do."""

from __future__ import annotations

import numpy as np
import pytest

from fastcpu import QuantizationError
from fastcpu.quantize import OBSERVERS, Histogram, make_observer
from fastcpu.quantize.ranges import (
    affine,
    quantization,
    relative_squared_error,
    round_trip,
    squared_error,
    symmetric,
)


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram("x")
    for part in parts:
        histogram.update(part.astype(np.float32))
    return histogram


@pytest.fixture
def sample() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.concatenate([rng.standard_normal(5000) + 0.5, [40.0, -7.0, 0.0]]).astype(np.float32)


def test_counts_do_not_depend_on_how_the_data_was_split(sample: np.ndarray) -> None:
    whole = histogram_of(sample)
    ascending = np.sort(np.abs(sample)) * np.sign(sample)
    for parts in (np.array_split(sample, 7), np.array_split(sample[::-1], 3), [*np.split(sample, [1, 2])]):
        other = histogram_of(*parts)
        assert np.array_equal(whole.counts, other.counts)
        assert (whole.limit, whole.low, whole.high) == (other.limit, other.low, other.high)
    assert histogram_of(ascending).total == sample.size


@pytest.mark.parametrize("value", [1.0, 2.0, 0.75, 1e-38, 3e38])
def test_a_power_of_two_at_the_limit_is_counted_once(value: float) -> None:
    histogram = histogram_of(np.array([value]), np.array([-value, value / 2]))
    assert histogram.total == 3
    assert (histogram.low, histogram.high) == (-np.float32(value), np.float32(value))


def test_zeros_only() -> None:
    histogram = histogram_of(np.zeros(5), np.zeros(4))
    centres, counts = histogram.points()
    assert (centres.tolist(), counts.tolist()) == ([0.0], [9.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_broken_values_are_named(bad: float) -> None:
    with pytest.raises(QuantizationError, match="'x' is NaN or infinite"):
        histogram_of(np.array([1.0, bad]))


def test_quantiles_are_good_to_a_bin(sample: np.ndarray) -> None:
    histogram = histogram_of(sample)
    width = 2 * histogram.limit / histogram.counts.size
    for fraction in (0.001, 0.1, 0.5, 0.99):
        assert abs(histogram.quantile(fraction) - np.quantile(sample, fraction)) <= 2 * width
    assert (histogram.quantile(0), histogram.quantile(1)) == (sample.min(), sample.max())


def test_the_mse_observer_is_best(sample: np.ndarray) -> None:
    histogram = histogram_of(sample)
    points = histogram.points()
    for is_symmetric in (False, True):
        errors = {
            name: squared_error(
                *points, quantization(*make_observer(name).limits(histogram, is_symmetric), is_symmetric)
            )
            for name in OBSERVERS
        }
        assert min(errors, key=errors.__getitem__) == "mse"


def test_percentile_clamps_the_outlier(sample: np.ndarray) -> None:
    assert make_observer("percentile", {"fraction": 0.999}).limits(histogram_of(sample), False)[1] < 5


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("best", {}, "minmax, mse, percentile"),
        ("mse", {"stepz": 3}, "no option stepz"),
        ("mse", {"steps": 0}, "steps >= 1"),
        ("percentile", {"fraction": 0.0}, r"in \(0, 1\]"),
    ],
)
def test_bad_observers_are_typed_errors(name: str, options: dict[str, float], message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        make_observer(name, options)


def test_affine_represents_zero_exactly_and_covers_the_range() -> None:
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-3.0, -1.0), (0.0, 0.0), (-1e-40, 1e-40)):
        chosen = affine(low, high)
        assert 0 <= chosen.zero_point <= 255
        assert round_trip(np.float64([0.0]), chosen)[0] == 0
        assert chosen.scale == np.float32(chosen.scale) > 0


def test_symmetric_has_zero_point_128() -> None:
    assert symmetric(-2.0, 1.0).zero_point == 128
    assert symmetric(-2.0, 1.0).scale == np.float32(2 / 127)
    assert symmetric(0.0, 0.0).scale == 1


def test_relative_squared_error() -> None:
    x, counts = np.array([0.4, 1.0, 300.0]), np.array([2.0, 1.0, 1.0])
    expected = (2 * 0.4**2 + 45.0**2) / (2 * 0.4**2 + 1.0 + 300.0**2)
    assert relative_squared_error(x, counts, affine(0.0, 255.0)) == pytest.approx(expected)
    assert relative_squared_error(np.zeros(1), np.ones(1), affine(0.0, 0.0)) == 0
