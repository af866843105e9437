"""Statistics of timed rounds and the comparison of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FP32_TOLERANCE = 1e-4
"""Largest absolute difference between an fp32 engine and the reference."""
MIN_COSINE = 0.99
"""Smallest cosine between an int8 engine's output and the reference's."""


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of one figure per round."""

    median: float
    q1: float
    q3: float

    def as_json(self) -> dict[str, float]:
        """{"median", "q1", "q3", "iqr"}."""
        return asdict(self) | {"iqr": self.q3 - self.q1}


def spread(values: Sequence[float]) -> Spread:
    """Median and linearly interpolated quartiles; ValueError for none."""
    if not len(values):
        raise ValueError("no rounds to summarize")
    q1, median, q3 = np.percentile(np.asarray(values, np.float64), [25, 50, 75])
    return Spread(float(median), float(q1), float(q3))


def ratio_spread(rates: Sequence[float], peer_rates: Sequence[float]) -> Spread:
    """Spread of the per-round ratios rates[r] / peer_rates[r], both in sequences per second."""
    if len(rates) != len(peer_rates):
        raise ValueError(f"{len(rates)} rounds against {len(peer_rates)}")
    return spread([rate / peer for rate, peer in zip(rates, peer_rates, strict=True)])


@dataclass(frozen=True)
class Agreement:
    """How an engine's answers compare with the reference's over all outputs and inputs."""

    max_abs_difference: float
    cosine: float
    """The smallest over the outputs; each output's values of all inputs are one vector."""
    argmax_share: float
    """Share of rows along the last axis whose largest value is at the same place."""
    comparable: bool
    """Whether the answers have the right names and shapes and are finite, so that the figures above mean something."""
    problem: str
    """Why the answers are void; empty if they are not."""

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


Answers = Mapping[str, NDArray[np.floating]]


def _void(problem: str) -> Agreement:
    return Agreement(0.0, 0.0, 0.0, comparable=False, problem=problem)


def compare_answers(answers: Sequence[Answers], reference: Sequence[Answers], precision: str) -> Agreement:
    """Compares the answers to the same inputs, one mapping per input, at `precision` "fp32" or "int8".

    fp32 must be within `FP32_TOLERANCE` of the reference; int8 must reach `MIN_COSINE` in every output. Wrong names,
    shapes or non-finite values are void at any precision.
    """
    if len(answers) != len(reference):
        return _void(f"{len(answers)} answers to {len(reference)} inputs")
    for answer, expected in zip(answers, reference, strict=True):
        if set(answer) != set(expected):
            return _void(f"outputs {sorted(answer)}, not {sorted(expected)}")
        for name in expected:
            if answer[name].shape != expected[name].shape:
                return _void(f"{name} has shape {answer[name].shape}, not {expected[name].shape}")
            if not np.isfinite(answer[name]).all():
                return _void(f"{name} is not finite")
    differences, cosines, same, rows = [0.0], [1.0], 0, 0
    for name in reference[0]:
        ours = np.concatenate([answer[name].astype(np.float64).ravel() for answer in answers])
        theirs = np.concatenate([answer[name].astype(np.float64).ravel() for answer in reference])
        differences.append(float(np.abs(ours - theirs).max()))
        norms = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
        cosines.append(float(ours @ theirs) / norms if norms else float(np.array_equal(ours, theirs)))
        for answer, expected in zip(answers, reference, strict=True):
            equal = answer[name].argmax(axis=-1) == expected[name].argmax(axis=-1)
            same, rows = same + int(np.sum(equal)), rows + int(np.size(equal))
    difference, cosine = max(differences), min(cosines)
    problem = ""
    if precision == "fp32" and difference > FP32_TOLERANCE:
        problem = f"differs by {difference:.3g} from the reference, more than {FP32_TOLERANCE:g}"
    elif precision == "int8" and cosine < MIN_COSINE:
        problem = f"cosine {cosine:.4f} to the reference, less than {MIN_COSINE:g}"
    return Agreement(difference, cosine, same / rows if rows else 1.0, comparable=True, problem=problem)
