"""Absolute value: small weights matter least."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.prune.score import Score


def value(weight: NDArray[Any], evidence: NDArray[Any] | None) -> NDArray[np.float64]:
    """|w|, float64 [N, K]."""
    del evidence
    return np.abs(weight.astype(np.float64))


SCORE = Score("magnitude", None, value)
