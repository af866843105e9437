"""Weights by what reaches them: |w| times the root mean square of the input channel (Wanda, Sun et al., 2023)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import InputError
from fastcpu.prune.score import Score


def value(weight: NDArray[Any], evidence: NDArray[Any] | None) -> NDArray[np.float64]:
    """|w[n, k]| sqrt(mean x[k]^2), float64 [N, K]."""
    if evidence is None:
        raise InputError("the score wanda needs the inputs of the layer: it is for pruning while training")
    scores: NDArray[np.float64] = np.abs(weight.astype(np.float64)) * np.sqrt(evidence.astype(np.float64))
    return scores


SCORE = Score("wanda", "input", value)
