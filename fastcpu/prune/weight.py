"""Pruning of one weight [N, K]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import InputError
from fastcpu.prune.pattern import Pattern
from fastcpu.prune.patterns import PATTERNS
from fastcpu.prune.score import Score
from fastcpu.prune.scores import SCORES


@dataclass(frozen=True)
class Sparsity:
    """How many of a weight's blocks, and of its single weights, are zero."""

    pattern: str
    blocks: int
    zero_blocks: int
    weights: int
    zero_weights: int

    @property
    def block_sparsity(self) -> float:
        return self.zero_blocks / self.blocks if self.blocks else 0.0

    @property
    def weight_sparsity(self) -> float:
        return self.zero_weights / self.weights if self.weights else 0.0


def _pattern(name: str) -> Pattern:
    if name not in PATTERNS:
        raise InputError(f"no pruning pattern {name!r}; there are {', '.join(sorted(PATTERNS))}")
    return PATTERNS[name]


def _score(name: str) -> Score:
    if name not in SCORES:
        raise InputError(f"no pruning score {name!r}; there are {', '.join(sorted(SCORES))}")
    return SCORES[name]


def sparsity_of(weight: NDArray[Any], pattern: str = "4x1") -> Sparsity:
    """Counts the zeros of a weight; InputError if it does not divide into the pattern's blocks."""
    zero = _pattern(pattern).zero_blocks(weight)
    return Sparsity(pattern, zero.size, int(zero.sum()), weight.size, int((weight == 0).sum()))


def keep_mask(
    weight: NDArray[Any],
    sparsity: float,
    pattern: str = "4x1",
    score: str = "magnitude",
    evidence: NDArray[Any] | None = None,
) -> NDArray[np.bool_]:
    """The mask [N, K] that drops exactly ``round(sparsity * blocks)`` blocks, those of the lowest score.

    Blocks of equal score go in row-major order, so the mask is a function of its arguments alone. ``evidence`` is what
    the score needs beside the weight (`fastcpu.prune.Score`).
    """
    given = {} if evidence is None else {"": evidence}
    return keep_masks({"": weight}, sparsity, pattern, score, given)[""]


def keep_masks(
    weights: Mapping[str, NDArray[Any]],
    sparsity: float,
    pattern: str = "4x1",
    score: str = "magnitude",
    evidence: Mapping[str, NDArray[Any]] | None = None,
    scope: Literal["layer", "global"] = "layer",
) -> dict[str, NDArray[np.bool_]]:
    """Masks of several weights [N, K], by name.

    With ``scope="global"``, blocks of all weights compete, each by its score over the mean score of its weight, and
    layers end up with different sparsities; with ``"layer"``, every weight gets the same.
    """
    if not 0.0 <= sparsity <= 1.0:
        raise InputError(f"sparsity must be in [0, 1], not {sparsity}")
    blocks, rule = _pattern(pattern), _score(score)
    scores: dict[str, NDArray[np.float64]] = {}
    for name, weight in weights.items():
        where = f"linear '{name}': " if name else ""
        if not blocks.fits(weight.shape):
            raise InputError(f"{where}a weight of shape {list(weight.shape)} does not divide into {blocks.name} blocks")
        if not np.isfinite(weight).all():
            raise InputError(f"{where}a weight to prune holds NaN or infinity")
        scores[name] = blocks.reduce(rule.value(weight, (evidence or {}).get(name)))
    if scope == "layer":
        kept = {name: _highest(each.ravel(), sparsity) for name, each in scores.items()}
    else:
        relative = [each.ravel() / max(float(each.mean()), np.finfo(np.float64).tiny) for each in scores.values()]
        flat = _highest(np.concatenate(relative), sparsity)
        kept = dict(zip(scores, np.split(flat, np.cumsum([each.size for each in relative])[:-1]), strict=True))
    return {name: blocks.expand(kept[name].reshape(each.shape)) for name, each in scores.items()}


def _highest(scores: NDArray[np.float64], sparsity: float) -> NDArray[np.bool_]:
    """True for all but the round(sparsity * count) lowest of a vector; of equal scores, the first are lower."""
    dropped = round(sparsity * scores.size)
    if dropped == 0:
        return np.ones(scores.size, dtype=np.bool_)
    threshold = np.partition(scores, dropped - 1)[dropped - 1]
    keep: NDArray[np.bool_] = scores > threshold
    equal = np.flatnonzero(scores == threshold)
    keep[equal[dropped - int((scores < threshold).sum()) :]] = True
    return keep


def prune_weight(weight: NDArray[Any], sparsity: float, pattern: str = "4x1", score: str = "magnitude") -> NDArray[Any]:
    """A copy of the weight with the blocks outside `keep_mask` set to zero."""
    return np.where(keep_mask(weight, sparsity, pattern, score), weight, np.zeros((), weight.dtype))
