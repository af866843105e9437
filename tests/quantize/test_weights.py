"""s8 weights, their encodings, and activation tables."""

from __future__ import annotations

import numpy as np
import pytest

from fastcpu import QuantizationError
from fastcpu.graph.ir import Tensor
from fastcpu.prune import prune_weight
from fastcpu.quantize import Histogram, stored_bytes
from fastcpu.quantize.ranges import affine
from fastcpu.quantize.table import ACTIVATIONS, fit_table, make_table
from fastcpu.quantize.weights import encoded, quantize_rows, quantize_tensor, relative_error
from tests.reference import oracle


def test_rows_are_rounded_to_the_nearest_level_of_their_scale() -> None:
    weight = np.random.default_rng(0).standard_normal((8, 33)).astype(np.float32)
    weight[3] = 0
    weight[:, 5] = 0
    q, scale = quantize_rows(weight)
    assert (q.dtype, scale.dtype) == (np.int8, np.float32)
    assert scale[3] == 1
    others = np.arange(8) != 3
    assert np.array_equal(
        scale[others], (np.abs(weight[others]).max(axis=1).astype(np.float64) / 127).astype(np.float32)
    )
    assert np.abs(q).max() == 127
    assert (q[:, 5] == 0).all()
    assert (np.abs(q * scale[:, None].astype(np.float64) - weight) <= scale[:, None] * 0.5001).all()


def test_relative_error() -> None:
    weight = np.array([[127.0, 0.4, 0.0], [0.0, 0.0, 0.0]], np.float32)
    assert relative_error(weight, quantize_tensor(Tensor("w", weight))) == pytest.approx(0.16 / (127**2 + 0.16))
    assert relative_error(weight[:, :1], quantize_tensor(Tensor("w", weight[:, :1]))) == 0
    assert relative_error(weight[1:], quantize_tensor(Tensor("w", weight[1:]))) == 0, "nothing but zeros"


def test_subnormal_rows_get_scale_one() -> None:
    q, scale = quantize_rows(np.full((4, 4), 1e-45, np.float32))
    assert (q == 0).all()
    assert (scale == 1).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_weights_are_typed_errors(bad: float) -> None:
    with pytest.raises(QuantizationError, match="'w' holds NaN or infinity"):
        quantize_tensor(Tensor("w", np.float32([[1, bad]])))
    with pytest.raises(QuantizationError, match="only matrices"):
        quantize_tensor(Tensor("w", np.ones(3, np.float32)))


@pytest.mark.parametrize(("sparsity", "encoding"), [(0.0, "dense"), (0.3, "dense"), (0.5, "block"), (0.9, "block")])
def test_the_smaller_encoding_is_chosen(sparsity: float, encoding: str) -> None:
    weight = np.random.default_rng(1).standard_normal((64, 96)).astype(np.float32)
    tensor = encoded(quantize_tensor(Tensor("w", prune_weight(weight, sparsity))))
    assert tensor.encoding == encoding
    if encoding == "block":
        blocks = 16 * 96 - round(sparsity * 16 * 96)
        assert stored_bytes(tensor) == blocks * 6 + 17 * 4 + 64 * 4
        assert stored_bytes(tensor) < 64 * 96 + 64 * 4
    else:
        assert stored_bytes(tensor) == 64 * 96 + 64 * 4


def test_rows_that_are_no_multiple_of_4_stay_dense() -> None:
    assert encoded(quantize_tensor(Tensor("w", np.zeros((6, 8), np.float32)))).encoding == "dense"


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_table_entries_are_the_rounded_exact_values(activation: str) -> None:
    source, target = affine(-3.0, 5.0), affine(-0.2, 5.0)
    x = oracle.dequantize(np.arange(256, dtype=np.uint8), source.scale, source.zero_point)
    exact = oracle.quantize(oracle.FUNCTIONS[activation](x), target.scale, target.zero_point)
    assert oracle.u8_mismatches(make_table(activation, source, target), exact) == 0


def histogram_of(values: np.ndarray) -> Histogram:
    histogram = Histogram()
    histogram.update(values.astype(np.float32))
    return histogram


def test_no_levels_are_spent_on_the_flat_tail_of_gelu() -> None:
    rng = np.random.default_rng(2)
    before = histogram_of(np.concatenate([rng.normal(-8, 3, 10_000), rng.normal(0, 1, 2_000)]))
    fitted = fit_table("gelu", before, (before.low, before.high))
    assert -5 < -fitted.input.scale * fitted.input.zero_point < -1
    naive = affine(before.low, before.high)
    assert fitted.input.scale < naive.scale / 2


def test_tanh_input_is_kept_off_both_flat_ends() -> None:
    before = histogram_of(np.random.default_rng(3).normal(0, 4, 10_000))
    fitted = fit_table("tanh", before, (before.low, before.high))
    assert 255 * fitted.input.scale < 10
    assert fitted.output.scale == pytest.approx(2 / 255, rel=0.02)


def test_a_table_of_one_sided_input_covers_it() -> None:
    for sign in (-1, 1):
        before = histogram_of(sign * np.random.default_rng(4).random(1000))
        fitted = fit_table("gelu", before, (before.low, before.high))
        x = sign * np.float64([0.2, 0.9])
        index = np.clip(np.rint(x / fitted.input.scale + fitted.input.zero_point), 0, 255).astype(int)
        got = (fitted.table[index] - float(fitted.output.zero_point)) * fitted.output.scale
        np.testing.assert_allclose(got, oracle.gelu(x), atol=0.01)
