"""Sensitivity of the loss: a running mean of |w dL/dw| (SNIP of Lee et al., 2019, equation 4, with momentum)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import InputError
from fastcpu.prune.score import Score


def value(weight: NDArray[Any], evidence: NDArray[Any] | None) -> NDArray[np.float64]:
    """The evidence itself, float64 [N, K]; zero weights score zero."""
    if evidence is None:
        raise InputError("the score snip_momentum needs gradients: it is for pruning while training")
    return np.where(weight == 0, 0.0, evidence.astype(np.float64))


SCORE = Score("snip_momentum", "gradient", value)
