"""Metrics on cases worked out by hand, and against scipy and brute force."""

from __future__ import annotations

from itertools import permutations
from math import log2

import numpy as np
import pytest
from scipy import stats

from fastcpu import InputError
from fastcpu.eval.bootstrap import mean_interval, statistic_interval
from fastcpu.eval.metrics import average_ranks, rank_metrics, spearman


def test_average_ranks_of_ties() -> None:
    assert average_ranks(np.array([3.0, 1.0, 3.0, 7.0, 1.0])).tolist() == [3.5, 1.5, 3.5, 5.0, 1.5]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 1000])
def test_spearman_matches_scipy(seed: int, levels: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.integers(0, levels, (2, 60)).astype(np.float64)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12), f"seed {seed}"


def test_spearman_of_a_constant_is_not_defined() -> None:
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))
    assert np.isnan(spearman(np.arange(4.0), np.ones(4)))


@pytest.mark.parametrize(
    ("a", "b"), [(np.ones(3), np.ones(4)), (np.ones(1), np.ones(1)), (np.array([1.0, np.nan]), np.ones(2))]
)
def test_spearman_rejects(a: np.ndarray, b: np.ndarray) -> None:
    with pytest.raises(InputError, match="spearman needs"):
        spearman(a, b)


def test_single_answer() -> None:
    scores = np.array([0.9, 0.5, 0.7, 0.1])
    assert rank_metrics(scores, {0: 1.0}).ndcg == 1.0
    third = rank_metrics(scores, {1: 1.0})
    assert third.ndcg == pytest.approx(1 / log2(4))
    assert third.reciprocal_rank == pytest.approx(1 / 3)
    assert rank_metrics(scores, {3: 1.0}, k=3) == pytest.approx(rank_metrics(scores, {3: 5.0}, k=3))
    assert rank_metrics(scores, {3: 1.0}, k=3).ndcg == rank_metrics(scores, {3: 1.0}, k=3).reciprocal_rank == 0.0


def test_graded_gains() -> None:
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    expected = (1 / log2(3) + 3 / log2(5)) / (3 + 1 / log2(3))
    assert rank_metrics(scores, {1: 1.0, 3: 3.0}).ndcg == pytest.approx(expected)


def test_two_tied_at_the_top() -> None:
    result = rank_metrics(np.array([1.0, 1.0, 0.0]), {1: 1.0})
    assert result.ndcg == pytest.approx((1 + 1 / log2(3)) / 2)
    assert result.reciprocal_rank == pytest.approx((1 + 1 / 2) / 2)


def ranked(order: list[int], relevant: dict[int, float], k: int) -> tuple[float, float]:
    """nDCG@k and reciprocal rank of one order of the documents."""
    dcg = sum(relevant.get(document, 0.0) / log2(rank + 2) for rank, document in enumerate(order[:k]))
    ideal = sum(gain / log2(rank + 2) for rank, gain in enumerate(sorted(relevant.values(), reverse=True)[:k]))
    first = next((1 / (rank + 1) for rank, document in enumerate(order[:k]) if document in relevant), 0.0)
    return dcg / ideal, first


@pytest.mark.parametrize("seed", range(12))
def test_ties_are_the_mean_over_all_orders(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 3, 6).astype(np.float64)
    chosen = generator.choice(6, generator.integers(1, 4), replace=False)
    relevant = {int(document): float(generator.integers(1, 4)) for document in chosen}
    k = int(generator.integers(1, 7))
    # Every order of equal scores is equally often among the stable sorts of all permutations.
    orders = [sorted(order, key=lambda document: -scores[document]) for order in permutations(range(6))]
    expected = np.mean([ranked(order, relevant, k) for order in orders], axis=0)
    result = rank_metrics(scores, relevant, k)
    assert (result.ndcg, result.reciprocal_rank) == pytest.approx(tuple(expected)), f"seed {seed}"


@pytest.mark.parametrize("relevant", [{}, {0: 0.0}, {0: -1.0, 1: 1.0}])
def test_relevance_must_be_positive(relevant: dict[int, float]) -> None:
    with pytest.raises(InputError, match="greater than 0"):
        rank_metrics(np.ones(3), relevant)


def test_scores_must_be_finite() -> None:
    with pytest.raises(InputError, match="finite"):
        rank_metrics(np.array([1.0, np.nan]), {0: 1.0})


def test_bootstrap_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, 400)
    interval = mean_interval(values)
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert interval == mean_interval(values), "the same seed gives the same interval"
    assert interval == pytest.approx(statistic_interval(lambda rows: values[rows].mean(axis=-1), len(values)))


def test_resamples_without_a_statistic_are_left_out() -> None:
    a, b = np.array([0.0, 1.0, 2.0]), np.array([0.0, 2.0, 1.0])
    interval = statistic_interval(lambda rows: spearman(a[rows], b[rows]), 3)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.5, -1.0, 1.0))
    point = statistic_interval(lambda rows: np.where(rows.shape[-1] == 2, 0.5, np.full(rows.shape[:-1], np.nan)), 1)
    assert np.isnan([point.value, point.low, point.high]).all()


def test_bootstrap_interval_of_a_constant_is_a_point() -> None:
    interval = mean_interval(np.full(10, 0.25))
    assert (interval.low, interval.value, interval.high) == (0.25, 0.25, 0.25)
