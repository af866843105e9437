"""Statistics of rounds and comparison of answers."""

from __future__ import annotations

import numpy as np
import pytest

from bench.stats import compare_answers, ratio_spread, spread


def test_spread_is_median_and_interpolated_quartiles() -> None:
    result = spread([4.0, 1.0, 3.0, 2.0])
    assert (result.q1, result.median, result.q3) == (1.75, 2.5, 3.25)
    assert result.as_json()["iqr"] == 1.5


def test_ratio_is_taken_within_each_round() -> None:
    """A slowdown of the machine in one round must cancel out."""
    result = ratio_spread([10.0, 1.0, 20.0], [5.0, 0.5, 10.0])
    assert (result.q1, result.median, result.q3) == (2.0, 2.0, 2.0)


def test_unusable_rounds_are_errors() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        spread([])
    with pytest.raises(ValueError, match="2 rounds against 1"):
        ratio_spread([1.0, 2.0], [1.0])


def _answers(*arrays: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{"logits": array} for array in arrays]


def test_equal_answers_agree() -> None:
    values = np.array([[0.0, 3.0, 1.0]], np.float32)
    result = compare_answers(_answers(values, values), _answers(values, values), "fp32")
    assert (result.max_abs_difference, result.argmax_share, result.problem) == (0.0, 1.0, "")
    assert result.cosine == pytest.approx(1.0)


@pytest.mark.parametrize(("difference", "void"), [(0.9e-4, False), (1.1e-4, True)])
def test_fp32_is_held_to_1e_4(difference: float, void: bool) -> None:
    reference = np.zeros((1, 4))
    result = compare_answers(_answers(reference + difference), _answers(reference), "fp32")
    assert bool(result.problem) is void


@pytest.mark.parametrize(("degrees", "void"), [(8.0, False), (8.2, True)])
def test_int8_is_held_to_cosine_099(degrees: float, void: bool) -> None:
    angle = np.deg2rad(degrees)
    ours = np.array([[np.cos(angle), np.sin(angle)]])
    result = compare_answers(_answers(ours), _answers(np.array([[1.0, 0.0]])), "int8")
    assert result.cosine == pytest.approx(np.cos(angle))
    assert bool(result.problem) is void
    assert result.argmax_share == 1.0


def test_cosine_is_that_of_the_worst_output() -> None:
    reference = [{"start": np.array([1.0, 0.0]), "end": np.array([1.0, 0.0])}]
    result = compare_answers([{"start": np.array([1.0, 0.0]), "end": np.array([0.0, 1.0])}], reference, "int8")
    assert result.cosine == 0.0
    assert result.argmax_share == 0.5


def test_argmax_share_counts_rows() -> None:
    reference = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    ours = np.array([[0.9, 0.0], [0.9, 0.0], [0.9, 0.0], [0.0, 0.1]])
    assert compare_answers(_answers(ours), _answers(reference), "int8").argmax_share == 0.75


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"logits": np.zeros((1, 3))}, "shape"),
        ({"other": np.zeros((1, 2))}, "outputs"),
        ({"logits": np.full((1, 2), np.nan)}, "finite"),
    ],
)
def test_malformed_answers_are_void(answer: dict[str, np.ndarray], problem: str) -> None:
    result = compare_answers([answer], _answers(np.zeros((1, 2))), "int8")
    assert problem in result.problem


def test_missing_answers_are_void() -> None:
    assert compare_answers([], _answers(np.zeros((1, 2))), "int8").problem == "0 answers to 1 inputs"
