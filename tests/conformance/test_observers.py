"""What every registered observer does with the statistics of a value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu import QuantizationError
from fastcpu.quantize import OBSERVERS, Histogram, make_observer
from fastcpu.quantize.ranges import quantization, round_trip, squared_error

SYMMETRIC = pytest.mark.parametrize("is_symmetric", [False, True], ids=["affine", "symmetric"])
EVERY = pytest.mark.parametrize("name", sorted(OBSERVERS))
CONSTANTS = [0.0, 3.0, -2.0, 1e-20, 1e30]


def seen(*parts: NDArray[np.floating]) -> Histogram:
    histogram = Histogram("x")
    for part in parts:
        histogram.update(part.astype(np.float32))
    return histogram


@pytest.fixture
def sample(rng: np.random.Generator) -> NDArray[np.float32]:
    """A bulk off centre, and a few outliers at either end."""
    return np.concatenate([rng.standard_normal(5000) + 0.5, [40.0, -7.0, 0.0]]).astype(np.float32)


@EVERY
@SYMMETRIC
def test_the_range_lies_within_what_was_seen_and_holds_the_bulk(
    name: str, is_symmetric: bool, sample: NDArray[np.float32]
) -> None:
    histogram = seen(sample)
    low, high = make_observer(name).limits(histogram, is_symmetric)
    magnitude = max(-histogram.low, histogram.high)
    assert -magnitude <= low <= high <= magnitude
    if not is_symmetric:
        assert histogram.low <= low
    assert low <= np.quantile(sample, 0.01)
    assert high >= np.quantile(sample, 0.99)
    chosen = quantization(low, high, is_symmetric)
    inside = sample[(sample >= low) & (sample <= high)]
    assert np.abs(round_trip(inside, chosen) - inside).max() <= chosen.scale * 1.01


@EVERY
@SYMMETRIC
def test_it_serves_the_data_better_than_one_bit_less(
    name: str, is_symmetric: bool, sample: NDArray[np.float32]
) -> None:
    histogram = seen(sample)
    points = histogram.points()
    chosen = quantization(*make_observer(name).limits(histogram, is_symmetric), is_symmetric)
    coarse = quantization(2 * histogram.low, 2 * histogram.high, is_symmetric)
    assert squared_error(*points, chosen) < squared_error(*points, coarse)


@EVERY
@SYMMETRIC
def test_the_range_is_a_function_of_the_values(name: str, is_symmetric: bool, sample: NDArray[np.float32]) -> None:
    observer = make_observer(name)
    expected = observer.limits(seen(sample), is_symmetric)
    assert observer.limits(seen(sample), is_symmetric) == expected
    assert observer.limits(seen(*np.array_split(sample[::-1], 7)), is_symmetric) == expected
    histogram = seen(sample)
    counts = histogram.counts.copy()
    observer.limits(histogram, is_symmetric)
    assert np.array_equal(histogram.counts, counts)


@EVERY
@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_the_range_scales_with_the_values(name: str, factor: float, sample: NDArray[np.float32]) -> None:
    low, high = make_observer(name).limits(seen(sample), False)
    assert make_observer(name).limits(seen(sample * np.float32(factor)), False) == (low * factor, high * factor)


@EVERY
@SYMMETRIC
@pytest.mark.parametrize("constant", CONSTANTS)
def test_a_constant_is_kept(name: str, is_symmetric: bool, constant: float) -> None:
    low, high = make_observer(name).limits(seen(np.full(100, constant)), is_symmetric)
    kept = round_trip(np.float64([constant]), quantization(low, high, is_symmetric))[0]
    assert kept == pytest.approx(constant, rel=0.01)


@EVERY
@SYMMETRIC
def test_nothing_seen_is_an_error_that_names_the_value(name: str, is_symmetric: bool) -> None:
    for histogram in (Histogram("x"), seen(np.zeros(0))):
        with pytest.raises(QuantizationError, match="no calibration data reached value 'x'"):
            make_observer(name).limits(histogram, is_symmetric)


@EVERY
def test_what_is_not_finite_leaves_the_range_alone(name: str, sample: NDArray[np.float32]) -> None:
    histogram = seen(sample)
    expected = make_observer(name).limits(histogram, False)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(QuantizationError, match="'x' is NaN or infinite"):
            histogram.update(np.array([1000.0, bad], np.float32))
    assert make_observer(name).limits(histogram, False) == expected


@EVERY
def test_options_are_frozen_and_checked(name: str) -> None:
    observer = make_observer(name)
    with pytest.raises(QuantizationError, match=f"observer {name} has no option luck"):
        make_observer(name, {"luck": 1})
    for field in fields(observer):  # type: ignore[arg-type]
        with pytest.raises(FrozenInstanceError):
            setattr(observer, field.name, 1)
        with pytest.raises(QuantizationError, match=name):
            make_observer(name, {field.name: -1})
