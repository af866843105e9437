"""What a pruning pattern is: a tiling of a weight [N, K] into blocks that are zero or not as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import InputError


@dataclass(frozen=True)
class Pattern:
    """Blocks of ``rows`` consecutive output channels by ``columns`` consecutive input channels."""

    name: str
    rows: int
    columns: int

    def fits(self, shape: tuple[int, ...]) -> bool:
        """True if a weight of this shape divides into whole blocks."""
        return len(shape) == 2 and shape[0] % self.rows == 0 and shape[1] % self.columns == 0

    def block_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Number of blocks along each axis; InputError if the shape does not divide into blocks."""
        if not self.fits(shape):
            raise InputError(f"a weight of shape {list(shape)} does not divide into {self.name} blocks")
        return shape[0] // self.rows, shape[1] // self.columns

    def view(self, weight: NDArray[Any]) -> NDArray[Any]:
        """The weight as ``[block rows, rows, block columns, columns]``."""
        height, width = self.block_shape(weight.shape)
        return weight.reshape(height, self.rows, width, self.columns)

    def reduce(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score of each block: the sum over its weights."""
        total: NDArray[np.float64] = self.view(scores).sum(axis=(1, 3))
        return total

    def expand(self, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """A mask per block as a mask per weight."""
        return keep.repeat(self.rows, axis=0).repeat(self.columns, axis=1)

    def zero_blocks(self, weight: NDArray[Any]) -> NDArray[np.bool_]:
        """True for each block whose weights are all zero."""
        return np.asarray(~self.view(weight).any(axis=(1, 3)))
