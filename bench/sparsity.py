"""Counting of the zero blocks that a benchmark model promises.

A weight here is a linear layer's matrix [N outputs, K inputs]. Its 4x1 blocks are 4 consecutive output channels of
one input channel, so a [N, K] weight has N/4 * K blocks. `fastcpu.prune` makes the zeros; they are counted here
without it, so that one mistake cannot hide in both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK_OUTPUTS = 4


def zero_block_target(shape: tuple[int, ...], sparsity: float) -> int:
    """Number of zero 4x1 blocks that a weight of this shape [N, K] has at `sparsity` (0..1)."""
    return round(sparsity * (shape[0] // BLOCK_OUTPUTS) * shape[1])


def zero_blocks(weight: NDArray[Any]) -> int:
    """Number of 4x1 blocks of `weight` [N, K] that are entirely zero; ValueError unless N is a multiple of 4."""
    if weight.ndim != 2 or weight.shape[0] % BLOCK_OUTPUTS:
        raise ValueError(f"4x1 blocks need a weight [N, K] with N divisible by {BLOCK_OUTPUTS}, not {weight.shape}")
    blocks = np.stack([weight[row::BLOCK_OUTPUTS] for row in range(BLOCK_OUTPUTS)])
    return int(np.count_nonzero(~blocks.any(axis=0)))
