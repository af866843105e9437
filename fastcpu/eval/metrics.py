"""Metrics of ranking and of classification.

Ties in a ranking count by expectation, so the order of equal scores cannot matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


# ---- correlations, of samples [..., examples]: one number each ----


def average_ranks(values: FloatArray) -> Doubles:
    """Ranks from 1 along the last axis; equal values share the mean of their ranks."""
    distinct, codes = np.unique(values, return_inverse=True)
    codes = codes.reshape(-1, values.shape[-1])
    samples, width = len(codes), len(distinct)
    places = codes + width * np.arange(samples)[:, None]
    counts = np.bincount(places.ravel(), minlength=samples * width).reshape(samples, width)
    mean = np.cumsum(counts, axis=1) - (counts - 1) / 2
    ranks: Doubles = np.take_along_axis(mean, codes, axis=1).reshape(values.shape)
    return ranks


def spearman(a: FloatArray, b: FloatArray) -> Doubles:
    """Spearman's rank correlation: Pearson's correlation of the average ranks. NaN if a side is constant."""
    _check_pairs("spearman", a, b)
    return pearson(average_ranks(a), average_ranks(b))


def pearson(a: FloatArray, b: FloatArray) -> Doubles:
    """Pearson's correlation. NaN, which is to say undefined, if a side is constant."""
    _check_pairs("pearson", a, b)
    x, y = (side - side.mean(axis=-1, keepdims=True) for side in (a, b))
    norm = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    varies = (np.ptp(a, axis=-1) > 0) & (np.ptp(b, axis=-1) > 0) & (norm > 0)
    return _share((x * y).sum(axis=-1), norm, varies, np.nan)


def _share(
    part: npt.NDArray[Any], whole: npt.NDArray[Any], defined: npt.NDArray[np.bool_], otherwise: float
) -> Doubles:
    """``part / whole`` where it is defined."""
    part, whole, defined = np.broadcast_arrays(part, whole, defined)
    share: Doubles = np.divide(part, whole, out=np.full(part.shape, otherwise), where=defined)
    return share


def _check_pairs(name: str, a: FloatArray, b: FloatArray) -> None:
    if a.shape != b.shape or a.ndim < 1 or a.shape[-1] < 2:
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


# ---- classification, of samples [..., examples] and of their counts [..., labels, labels] ----


def confusion(gold: IntArray, predicted: IntArray, labels: int) -> IntArray:
    """[..., labels, labels]: how often each gold label (row) was predicted as each label (column)."""
    cells = (gold * labels + predicted).reshape(-1, gold.shape[-1])
    size = labels * labels
    places = cells + size * np.arange(len(cells))[:, None]
    counts = np.bincount(places.ravel(), minlength=len(cells) * size)
    return counts.reshape(*gold.shape[:-1], labels, labels)


def _right(counts: IntArray) -> IntArray:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def accuracy(counts: IntArray) -> Doubles:
    """Share of the examples of a `confusion` with the right label."""
    share: Doubles = _right(counts).sum(axis=-1) / counts.sum(axis=(-2, -1))
    return share


def f1_scores(counts: IntArray) -> Doubles:
    """F1 of each label, [..., labels]: 2 tp / (2 tp + fp + fn). NaN for a label that is neither gold nor predicted."""
    total = counts.sum(axis=-2) + counts.sum(axis=-1)
    return _share(2 * _right(counts), total, total > 0, np.nan)


def macro_f1(counts: IntArray) -> Doubles:
    """Mean F1 of the labels that are gold or predicted anywhere."""
    return np.asarray(np.nanmean(f1_scores(counts), axis=-1))


def matthews(counts: IntArray) -> Doubles:
    """Matthews' correlation of gold and predicted labels, for any number of labels (Gorodkin, 2004).

    0 where all gold or all predicted labels are the same.
    """
    c = counts.astype(np.float64)
    gold, predicted, total = c.sum(axis=-1), c.sum(axis=-2), c.sum(axis=(-2, -1))
    spread = (total**2 - (gold * gold).sum(axis=-1)) * (total**2 - (predicted * predicted).sum(axis=-1))
    together = _right(counts).sum(axis=-1) * total - (gold * predicted).sum(axis=-1)
    return _share(together, np.sqrt(np.maximum(spread, 0)), spread > 0, 0.0)
