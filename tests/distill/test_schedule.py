"""Learning rate, sparsity and the order of texts as functions of the step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from fastcpu.distill import schedule
from fastcpu.distill.corpus import Order
from fastcpu.recipe import Distill, Prune


def test_the_learning_rate_rises_and_falls() -> None:
    config = Distill(learning_rate=2.0, warmup=0.1)
    rates = [schedule.learning_rate(config, step, 100) for step in range(100)]
    assert rates[9] == pytest.approx(2.0)
    assert rates[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.05


def test_the_learning_rate_may_stay_high() -> None:
    config = Distill(learning_rate=2.0, warmup=0.1, decay_to=0.6)
    rates = [schedule.learning_rate(config, step, 100) for step in range(100)]
    assert max(rates) == rates[10] == pytest.approx(2.0)
    assert rates[-1] == pytest.approx(2.0 * (0.6 + 0.4 / 90))
    assert rates[55] == pytest.approx(2.0 * 0.8)


def test_sparsity_follows_the_cube_and_ends_exactly() -> None:
    config = Prune(sparsity=0.8, begin=0.1, end=0.6, interval=5)
    values = [schedule.sparsity(config, step, 100) for step in range(100)]
    assert values[:10] == [0.0] * 10
    assert values[34] == pytest.approx(0.8 * (1 - 0.5**3))
    assert values[59:] == [0.8] * 41
    assert all(a <= b for a, b in pairwise(values))


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100, 101])
@pytest.mark.parametrize(("begin", "end", "interval"), [(0.0, 0.5, 20), (0.1, 0.6, 7), (0.0, 0.0, 1), (0.3, 1.0, 50)])
def test_the_last_update_is_at_full_sparsity(steps: int, begin: float, end: float, interval: int) -> None:
    config = Prune(sparsity=0.8, begin=begin, end=end, interval=interval)
    updates = [step for step in range(steps) if schedule.updates_masks(config, step, steps)]
    assert updates
    assert schedule.sparsity(config, updates[-1], steps) == 0.8


def test_an_epoch_takes_each_text_once_in_batches_of_similar_length(rng: np.random.Generator) -> None:
    lengths = rng.integers(3, 60, 1000)
    order = Order(lengths, batch=16, seed=0)
    epoch = [order(step) for step in range(1000 // 16)]
    taken = np.concatenate(epoch)
    assert len(taken) == len(set(taken.tolist())) == 62 * 16
    padded = sum(lengths[batch].max() * len(batch) for batch in epoch)
    assert padded < 1.15 * lengths[taken].sum()
    again = [order(step) for step in range(62, 124)]
    assert not all((a == b).all() for a, b in zip(epoch, again, strict=True))


def test_a_step_is_the_same_from_wherever_training_goes_on() -> None:
    lengths = np.arange(1, 101)
    whole = Order(lengths, batch=8, seed=5)
    expected = [whole(step) for step in range(40)]
    for step in (39, 3, 17):
        np.testing.assert_array_equal(Order(lengths, batch=8, seed=5)(step), expected[step])


def test_fewer_texts_than_a_batch() -> None:
    assert sorted(Order(np.array([4, 5, 6]), batch=64, seed=0)(7).tolist()) == [0, 1, 2]


@pytest.mark.parametrize(("begin", "end"), [(0.0, 0.5), (0.1, 0.6), (0.0, 0.0), (0.2, 1.0)])
def test_the_mean_of_the_sparsity_is_that_of_all_steps(begin: float, end: float) -> None:
    config = Prune(sparsity=0.8, begin=begin, end=end)
    values = [schedule.sparsity(config, step, 10_000) for step in range(10_000)]
    assert schedule.mean_progress(config) == pytest.approx(np.mean(values) / 0.8, abs=1e-3)
    assert schedule.mean_progress(Prune(sparsity=0.8, reconstruct=64)) == 1.0
