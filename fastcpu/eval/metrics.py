"""Metrics of ranking and of classification.

Ties in a ranking count by expectation, so the order of equal scores cannot matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]


def average_ranks(values: FloatArray) -> npt.NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: npt.NDArray[np.float64] = last - (counts - 1) / 2
    return mean[inverse]


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Spearman's rank correlation: Pearson's correlation of the average ranks. NaN if a side is constant."""
    _check_pairs("spearman", a, b)
    return pearson(average_ranks(a), average_ranks(b))


def pearson(a: FloatArray, b: FloatArray) -> float:
    """Pearson's correlation. NaN, which is to say undefined, if a side is constant."""
    _check_pairs("pearson", a, b)
    if a.min() == a.max() or b.min() == b.max():
        return float("nan")
    x, y = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 0 else float("nan")


def _check_pairs(name: str, a: FloatArray, b: FloatArray) -> None:
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise InputError(
            f"{name} needs two equally long lists of at least two values, not shapes {a.shape} and {b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError(f"{name} needs finite values")


@dataclass(frozen=True)
class Ranking:
    """Metrics of one query."""

    ndcg: float
    reciprocal_rank: float


def rank_metrics(scores: FloatArray, relevant: Mapping[int, float], k: int = 10) -> Ranking:
    """nDCG@k and the reciprocal rank within the first k, each the mean over all orders of equally scored documents.

    Args:
        scores: [documents], higher is better.
        relevant: index of each relevant document -> its gain, greater than 0.
        k: how many documents count.
    """
    if not relevant or min(relevant.values()) <= 0:
        raise InputError("a query needs at least one relevant document, each with a gain greater than 0")
    if not np.isfinite(scores).all():
        raise InputError("scores of documents must be finite")
    discounts = 1 / np.log2(np.arange(2, k + 2))
    groups: dict[float, list[float]] = {}  # score -> gains of the relevant documents with it
    for document, gain in relevant.items():
        groups.setdefault(float(scores[document]), []).append(gain)

    dcg = 0.0
    for score, gains in groups.items():
        above, equal = _above_and_equal(scores, score)
        dcg += sum(gains) / equal * float(discounts[above : above + equal].sum())
    ideal = np.sort(np.array(list(relevant.values())))[::-1][:k]
    best = max(groups)
    return Ranking(dcg / float(ideal @ discounts[: len(ideal)]), _first_reciprocal(scores, best, len(groups[best]), k))


def _above_and_equal(scores: FloatArray, score: float) -> tuple[int, int]:
    return int((scores > score).sum()), int((scores == score).sum())


def _first_reciprocal(scores: FloatArray, best: float, count: int, k: int) -> float:
    """Expected reciprocal rank of the first of `count` relevant documents, which all have the score `best`."""
    above, equal = _above_and_equal(scores, best)
    orders = comb(equal, count)
    places = range(min(equal - count + 1, max(k - above, 0)))
    return sum(comb(equal - place - 1, count - 1) / orders / (above + place + 1) for place in places)


# ---- classification ----


def confusion(gold: IntArray, predicted: IntArray, labels: int) -> IntArray:
    """[labels, labels]: how often each gold label (row) was predicted as each label (column)."""
    return np.bincount(gold * labels + predicted, minlength=labels * labels).reshape(labels, labels)


def accuracy(counts: IntArray) -> float:
    """Share of the examples of a `confusion` with the right label."""
    return float(np.trace(counts) / counts.sum())


def f1_scores(counts: IntArray) -> npt.NDArray[np.float64]:
    """F1 of each label, [labels]: 2 tp / (2 tp + fp + fn). NaN for a label that is neither gold nor predicted."""
    right = 2 * np.diag(counts).astype(np.float64)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    scores: npt.NDArray[np.float64] = np.divide(right, total, out=np.full(len(counts), np.nan), where=total > 0)
    return scores


def macro_f1(counts: IntArray) -> float:
    """Mean F1 of the labels that are gold or predicted anywhere."""
    return float(np.nanmean(f1_scores(counts)))


def matthews(counts: IntArray) -> float:
    """Matthews' correlation of gold and predicted labels, for any number of labels (Gorodkin, 2004).

    0 where all gold or all predicted labels are the same.
    """
    c = counts.astype(np.float64)
    gold, predicted, total = c.sum(axis=1), c.sum(axis=0), c.sum()
    spread = (total**2 - gold @ gold) * (total**2 - predicted @ predicted)
    return float((np.trace(c) * total - gold @ predicted) / np.sqrt(spread)) if spread > 0 else 0.0
