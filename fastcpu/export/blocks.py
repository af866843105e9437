"""The 4x1 block encoding of docs/format.md: 4 consecutive output channels x 1 input channel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.limits import BLOCK_HEIGHT


def encode(weight: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.uint16], NDArray[np.uint32]]:
    """``values`` [nnzb, 4], ``index`` [nnzb] (input channel) and ``offsets`` [N/4 + 1] of an s8 matrix [N, K]."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows // BLOCK_HEIGHT, BLOCK_HEIGHT, columns).transpose(0, 2, 1)
    nonzero = blocks.any(axis=2)
    offsets = np.concatenate([[0], np.cumsum(nonzero.sum(axis=1))]).astype(np.uint32)
    return np.ascontiguousarray(blocks[nonzero], np.int8), np.nonzero(nonzero)[1].astype(np.uint16), offsets
