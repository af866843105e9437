"""Absolute value: small weights matter least."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def score(weight: NDArray[Any]) -> NDArray[np.float64]:
    return np.abs(weight.astype(np.float64))
