"""Pruning that solves for what is left: exact counts, the best weights on a support, and the blocks that go first."""

from __future__ import annotations

import numpy as np
import pytest

from fastcpu.prune import PATTERNS, keep_mask
from fastcpu.prune.pattern import Pattern

torch = pytest.importorskip("torch")

from fastcpu.prune.least_squares import Normal, prune_and_solve  # noqa: E402

TOKENS, INPUTS, OUTPUTS = 400, 24, 16


@pytest.fixture
def problem(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Correlated inputs [T, K] with a mean, weights [N, K], a bias [N], outputs [T, N]."""
    mixing = rng.standard_normal((INPUTS, INPUTS))
    x = rng.standard_normal((TOKENS, INPUTS)) @ mixing + 2
    weight, bias = rng.standard_normal((OUTPUTS, INPUTS)), rng.standard_normal(OUTPUTS)
    return x, weight, bias, x @ weight.T + bias


def solved(x: np.ndarray, y: np.ndarray, weight: np.ndarray, sparsity: float, pattern: str = "4x1", **options: float):
    normal = Normal(x.shape[1], y.shape[1])
    for part in np.array_split(np.arange(len(x)), 3):
        normal.add(torch.from_numpy(x[part]).float(), torch.from_numpy(y[part]).float())
    result = prune_and_solve(
        *normal.products(bias=True), torch.from_numpy(weight).float(), sparsity, PATTERNS[pattern], **options
    )
    return result.numpy(), normal.bias(result).numpy()


def error(x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> float:
    return float(np.square(x @ weight.T + bias - y).sum())


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.3, 0.5, 0.77, 0.8, 0.9, 1.0])
def test_the_share_of_zero_blocks_is_exact(pattern: str, sparsity: float, problem: tuple[np.ndarray, ...]) -> None:
    x, weight, _, y = problem
    pruned, _ = solved(x, y, weight, sparsity, pattern)
    zero = PATTERNS[pattern].zero_blocks(pruned)
    assert zero.sum() == round(sparsity * zero.size)
    per_row = zero.sum(axis=1)
    assert per_row.max() - per_row.min() <= 1


def test_nothing_pruned_is_nothing_changed(problem: tuple[np.ndarray, ...]) -> None:
    x, weight, bias, y = problem
    same, offset = solved(x, y, weight, 0.0)
    np.testing.assert_allclose(same, weight, atol=1e-3)
    np.testing.assert_allclose(offset, bias, atol=1e-2)


def test_weights_are_the_best_on_their_support(problem: tuple[np.ndarray, ...]) -> None:
    x, weight, _, y = problem
    pruned, bias = solved(x, y, weight, 0.5, ridge=1e-6)
    for row in range(OUTPUTS):
        kept = np.flatnonzero(pruned[row])
        design = np.column_stack([x[:, kept], np.ones(TOKENS)])
        expected = np.linalg.lstsq(design, y[:, row], rcond=None)[0]
        np.testing.assert_allclose(pruned[row, kept], expected[:-1], atol=2e-3)
        np.testing.assert_allclose(bias[row], expected[-1], atol=1e-2)


def test_the_first_block_to_go_is_the_one_that_costs_least(problem: tuple[np.ndarray, ...]) -> None:
    x, weight, _, y = problem
    pruned, _ = solved(x, y, weight, 1 / INPUTS, ridge=1e-6)
    for group in range(OUTPUTS // 4):
        rows = slice(4 * group, 4 * group + 4)
        costs = []
        for column in range(INPUTS):
            design = np.column_stack([np.delete(x, column, axis=1), np.ones(TOKENS)])
            rest = y[:, rows] - design @ np.linalg.lstsq(design, y[:, rows], rcond=None)[0]
            costs.append(np.square(rest).sum())
        assert np.flatnonzero(~pruned[rows].any(axis=0)).tolist() == [int(np.argmin(costs))]


def test_the_error_is_far_below_that_of_magnitudes(problem: tuple[np.ndarray, ...]) -> None:
    x, weight, bias, y = problem
    kept = weight * keep_mask(weight, 0.5)
    assert error(x, y, *solved(x, y, weight, 0.5)) < 0.5 * error(x, y, kept, bias)


def test_inputs_that_are_always_zero(problem: tuple[np.ndarray, ...]) -> None:
    x, weight, bias, _ = problem
    dead = x.copy()
    dead[:, ::2] = 0
    y = dead @ weight.T + bias
    pruned, offset = solved(dead, y, weight, 0.5)
    assert not pruned[:, ::2].any()
    assert error(dead, y, pruned, offset) < 1e-4 * np.square(y).sum()
    nothing, _ = solved(0 * x, 0 * y, weight, 0.5)
    assert np.isfinite(nothing).all()


def test_without_a_bias_the_means_stay_in(problem: tuple[np.ndarray, ...]) -> None:
    x, weight, _, _ = problem
    y = x @ weight.T
    normal = Normal(INPUTS, OUTPUTS)
    normal.add(torch.from_numpy(x).float(), torch.from_numpy(y).float())
    pruned = prune_and_solve(
        *normal.products(bias=False), torch.from_numpy(weight).float(), 0.5, PATTERNS["4x1"], ridge=1e-6
    ).numpy()
    for row in range(OUTPUTS):
        kept = np.flatnonzero(pruned[row])
        expected = np.linalg.lstsq(x[:, kept], y[:, row], rcond=None)[0]
        np.testing.assert_allclose(pruned[row, kept], expected, atol=2e-3)


def test_blocks_along_the_inputs_are_refused(problem: tuple[np.ndarray, ...]) -> None:
    from fastcpu import InputError

    _, weight, _, _ = problem
    with pytest.raises(InputError, match="blocks of one input channel; 1x4 has 4"):
        prune_and_solve(
            torch.eye(INPUTS), torch.zeros(INPUTS, OUTPUTS), torch.from_numpy(weight), 0.5, Pattern("1x4", 1, 4)
        )
