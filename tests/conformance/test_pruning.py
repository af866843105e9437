"""What every registered pruning pattern and score does, alone and together."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu import InputError
from fastcpu.prune import PATTERNS, SCORES, keep_mask, keep_masks, prune_weight, sparsity_of

OBSERVED = [name for name, score in SCORES.items() if score.needs is not None]
ALONE = [name for name, score in SCORES.items() if score.needs is None]


def shape_for(pattern: str) -> tuple[int, int]:
    """Six block rows and eighteen block columns."""
    return 6 * PATTERNS[pattern].rows, 18 * PATTERNS[pattern].columns


def evidence_for(score: str, weight: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """What a score needs beside the weight: positive, and different everywhere."""
    shape = {None: None, "gradient": weight.shape, "input": weight.shape[1:]}[SCORES[score].needs]
    return None if shape is None else np.random.default_rng(1).random(shape).astype(np.float32) + np.float32(0.1)


@pytest.fixture
def weight(rng: np.random.Generator, request: pytest.FixtureRequest) -> NDArray[np.float32]:
    pattern = request.node.callspec.params.get("pattern", "4x1")
    return rng.standard_normal(shape_for(pattern)).astype(np.float32)


# ---- patterns ----


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_a_pattern_is_registered_under_its_name_and_tiles_a_weight(pattern: str) -> None:
    entry = PATTERNS[pattern]
    assert entry.name == pattern
    height, width = shape_for(pattern)
    assert entry.block_shape((height, width)) == (6, 18)
    numbers = np.arange(height * width).reshape(height, width)
    first = entry.view(numbers)[0, :, 0, :]
    assert np.array_equal(first, numbers[: entry.rows, : entry.columns]), "a block is contiguous in both axes"
    blocks = np.arange(6 * 18).reshape(6, 18) % 2 == 0
    assert np.array_equal(entry.zero_blocks(entry.expand(blocks)), ~blocks)
    ones = np.ones((height, width))
    assert (entry.reduce(ones) == entry.rows * entry.columns).all()


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_what_does_not_divide_into_blocks_is_refused(pattern: str) -> None:
    entry = PATTERNS[pattern]
    shapes: list[tuple[int, ...]] = [(entry.rows,), (entry.rows, entry.columns, 1)]
    shapes += [(entry.rows + 1, entry.columns)] if entry.rows > 1 else []
    shapes += [(entry.rows, entry.columns + 1)] if entry.columns > 1 else []
    for shape in shapes:
        assert not entry.fits(shape)
        with pytest.raises(InputError, match="does not divide into"):
            prune_weight(np.ones(shape), 0.5, pattern)


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_pruning_again_changes_nothing(weight: NDArray[np.float32], pattern: str) -> None:
    pruned = prune_weight(weight, 0.6, pattern)
    assert np.array_equal(prune_weight(pruned, 0.6, pattern), pruned)
    assert np.array_equal(prune_weight(pruned, 0.3, pattern), pruned)


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_the_weakest_blocks_go(weight: NDArray[np.float32], pattern: str) -> None:
    keep = keep_mask(weight, 0.5, pattern)
    blocks = PATTERNS[pattern].reduce(np.abs(weight.astype(np.float64)))
    kept = PATTERNS[pattern].view(keep).all(axis=(1, 3))
    assert blocks[kept].min() >= blocks[~kept].max()


# ---- patterns and scores ----


@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize("pattern", sorted(PATTERNS))
@pytest.mark.parametrize("sparsity", [0.0, 0.123, 0.5, 0.8, 1.0])
def test_a_mask_drops_exactly_its_share_in_whole_blocks(
    weight: NDArray[np.float32], pattern: str, score: str, sparsity: float
) -> None:
    keep = keep_mask(weight, sparsity, pattern, score, evidence_for(score, weight))
    assert (keep.shape, keep.dtype) == (weight.shape, np.bool_)
    blocks = PATTERNS[pattern].view(keep)
    assert np.array_equal(blocks.all(axis=(1, 3)), blocks.any(axis=(1, 3)))
    found = sparsity_of(np.where(keep, weight, 0), pattern)
    assert found.zero_blocks == round(sparsity * found.blocks)
    assert keep.all() == (sparsity == 0)
    assert keep.any() == (sparsity < 1)


@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_a_mask_is_a_function_of_its_arguments(weight: NDArray[np.float32], pattern: str, score: str) -> None:
    evidence = evidence_for(score, weight)
    keep = keep_mask(weight, 0.4, pattern, score, evidence)
    assert np.array_equal(keep_mask(weight.copy(), 0.4, pattern, score, evidence), keep)
    assert np.array_equal(keep_mask(np.asfortranarray(weight), 0.4, pattern, score, evidence), keep)
    given = {} if evidence is None else {"a": evidence, "b": evidence}
    together = keep_masks({"b": -weight, "a": weight}, 0.4, pattern, score, given)
    assert np.array_equal(together["a"], keep), "a layer does not see the others"
    assert np.array_equal(together["b"], keep), "signs do not matter"


@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_equal_blocks_go_in_row_major_order(pattern: str, score: str) -> None:
    weight = np.ones(shape_for(pattern), np.float32)
    needed = evidence_for(score, weight)
    keep = keep_mask(weight, 1 / 3, pattern, score, None if needed is None else np.ones_like(needed))
    blocks = PATTERNS[pattern].view(keep).all(axis=(1, 3)).ravel()
    assert blocks.tolist() == [False] * 36 + [True] * 72


@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_what_is_zero_goes_first(weight: NDArray[np.float32], pattern: str, score: str) -> None:
    evidence = evidence_for(score, weight)
    once = np.where(keep_mask(weight, 0.4, pattern, score, evidence), weight, 0)
    twice = keep_mask(once, 0.6, pattern, score, evidence)
    assert not (twice & (once == 0)).any()


@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused(weight: NDArray[np.float32], score: str, bad: float) -> None:
    evidence = evidence_for(score, weight)
    weight[3, 5] = bad
    given = {} if evidence is None else {"layer": evidence}
    with pytest.raises(InputError, match="linear 'layer': a weight to prune holds NaN or infinity"):
        keep_masks({"layer": weight}, 0.5, score=score, evidence=given)


# ---- scores ----


@pytest.mark.parametrize("score", sorted(SCORES))
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_are_finite_and_a_function_of_each_weight(
    weight: NDArray[np.float32], score: str, dtype: type[np.floating]
) -> None:
    entry, evidence = SCORES[score], evidence_for(score, weight)
    assert entry.name == score
    weight = weight.astype(dtype)
    before = weight.copy()
    scores = entry.value(weight, evidence)
    assert (scores.shape, scores.dtype) == (weight.shape, np.float64)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    assert np.array_equal(weight, before)
    assert np.array_equal(entry.value(weight, evidence), scores)
    rows, columns = np.arange(len(weight))[::-1], np.random.default_rng(2).permutation(weight.shape[1])
    moved = None if evidence is None else evidence[columns] if evidence.ndim == 1 else evidence[rows][:, columns]
    assert np.array_equal(entry.value(weight[rows][:, columns], moved), scores[rows][:, columns])


@pytest.mark.parametrize("score", sorted(SCORES))
def test_a_weight_of_zero_scores_least(weight: NDArray[np.float32], score: str) -> None:
    weight[::2, ::3] = 0
    scores = SCORES[score].value(weight, evidence_for(score, weight))
    assert scores[weight == 0].max() < scores[weight != 0].min()


@pytest.mark.parametrize("score", OBSERVED)
def test_a_score_without_its_evidence_is_refused(weight: NDArray[np.float32], score: str) -> None:
    with pytest.raises(InputError, match=f"the score {score} needs"):
        keep_mask(weight, 0.5, "4x1", score)


@pytest.mark.parametrize("score", ALONE)
def test_evidence_does_not_change_a_score_that_needs_none(weight: NDArray[np.float32], score: str) -> None:
    assert np.array_equal(SCORES[score].value(weight, np.abs(weight)), SCORES[score].value(weight, None))
