"""Absolute value: small weights matter least."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def score(weight: NDArray[Any]) -> NDArray[np.float64]:
    """``|weight|`` of a weight [N, K] of any dtype, as f64 [N, K]: the higher, the more a weight matters."""
    return np.abs(weight.astype(np.float64))
