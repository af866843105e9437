"""What a pruning score is: how important each weight of a linear is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Evidence = Literal["gradient", "input"]


@dataclass(frozen=True)
class Score:
    """A score of the registry.

    Attributes:
        name: as recipes and options write it.
        needs: what must be observed while the model trains: ``gradient`` (a running mean of the magnitude of w dL/dw,
            [N, K]), ``input`` (a running mean of the squared inputs, [K]) or None.
        value: float64 scores [N, K] from a weight [N, K] and that evidence; the least important are pruned.
    """

    name: str
    needs: Evidence | None
    value: Callable[[NDArray[Any], NDArray[Any] | None], NDArray[np.float64]]
