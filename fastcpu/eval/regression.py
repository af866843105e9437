"""Heads that predict a number: Pearson's and Spearman's correlation with the gold numbers, as GLUE measures STS-B."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError
from fastcpu.eval.bootstrap import Interval, Statistic, difference_interval, statistic_interval
from fastcpu.eval.data import shown
from fastcpu.eval.engine import Evaluation
from fastcpu.eval.metrics import Doubles, FloatArray, pearson, spearman

METRICS: dict[str, Callable[[FloatArray, FloatArray], Doubles]] = {"spearman": spearman, "pearson": pearson}


def gold_numbers(gold: Sequence[Any], places: Sequence[str]) -> npt.NDArray[np.float64]:
    """The gold numbers [examples]; InputError names one that is none, or says that they do not differ."""
    numbers = np.array([_number(*each) for each in zip(gold, places, strict=True)])
    if numbers.min() == numbers.max():
        raise InputError(f"{places[0]}: all {len(gold)} examples have {numbers[0]:g}: a correlation is not defined")
    return numbers


def _number(value: Any, place: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not isfinite(number):
        raise InputError(f"{place} is {shown(value)} and not a number, which this model predicts")
    return number


def evaluation(predicted: FloatArray, gold: FloatArray) -> Evaluation:
    """The correlations of predicted numbers [examples] with gold ones. InputError where they are not defined."""
    if predicted.min() == predicted.max():
        raise InputError(
            f"the model predicts {predicted[0]:.6g} for all {len(gold)} examples: a correlation is not defined"
        )
    samples = {"predicted": predicted.astype(np.float64), "gold": gold}
    values = {name: statistic_interval(_statistic(name, samples), len(gold)) for name in METRICS}
    return Evaluation("spearman", len(gold), values, samples)


def compare(a: Evaluation, b: Evaluation) -> Mapping[str, Interval]:
    """The correlations of `a` minus those of `b`, with the same examples drawn for both."""
    return {
        name: difference_interval(_statistic(name, a.samples), _statistic(name, b.samples), a.examples)
        for name in METRICS
    }


def _statistic(name: str, samples: Mapping[str, FloatArray]) -> Statistic:
    return lambda rows: METRICS[name](samples["predicted"][rows], samples["gold"][rows])
