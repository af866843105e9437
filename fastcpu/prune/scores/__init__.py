"""Importance of weights: a score maps a weight [N, K] to float64 scores [N, K].

To add one: a file here with ``score``, and its line below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.prune.scores import magnitude

Score = Callable[[NDArray[Any]], NDArray[np.float64]]

SCORES: dict[str, Score] = {
    "magnitude": magnitude.score,
}
