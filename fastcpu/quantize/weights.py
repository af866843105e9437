"""s8 weights and embedding tables, and how a weight is stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import QuantizationError
from fastcpu.graph.ir import Tensor
from fastcpu.graph.limits import BLOCK_HEIGHT, MAX_BLOCK_COLUMNS

VALUE_BYTES, INDEX_BYTES, OFFSET_BYTES = 1, 2, 4


def quantize_rows(data: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """s8 rows with one scale each: ``scale = max abs / 127``, 1 for a row of zeros. Zeros stay zeros."""
    magnitude = np.abs(data).max(axis=1, initial=0).astype(np.float64)
    scale = (magnitude / 127).astype(np.float32)
    scale[~(scale > 0)] = 1
    # Against the rounded scale, a magnitude may round to 128.
    values = np.rint(data.astype(np.float64) / scale[:, None].astype(np.float64))
    return np.clip(values, -127, 127).astype(np.int8), scale


def quantize_tensor(tensor: Tensor) -> Tensor:
    """An f32 matrix as s8 with a scale per row; QuantizationError if it holds NaN or infinity."""
    if tensor.data.ndim != 2:
        raise QuantizationError(
            f"tensor '{tensor.name}' has shape {list(tensor.data.shape)}; only matrices are quantized"
        )
    if not np.isfinite(tensor.data).all():
        raise QuantizationError(f"tensor '{tensor.name}' holds NaN or infinity")
    data, scale = quantize_rows(tensor.data)
    return Tensor(tensor.name, data, scale)


def relative_error(source: NDArray[np.float32], tensor: Tensor) -> float:
    """Squared error of an s8 matrix against the f32 one it was made of, relative to the squares of that; 0 for zeros.

    The signal-to-noise ratio in dB is -10 log10 of it.
    """
    assert tensor.scale is not None
    error = tensor.data.astype(np.float32) * tensor.scale[:, None] - source
    squares = float(np.square(source, dtype=np.float64).sum())
    return float(np.square(error, dtype=np.float64).sum()) / squares if squares else 0.0


def nonzero_blocks(data: NDArray[np.int8]) -> int:
    """How many 4x1 blocks the block encoding stores; the row count must be a multiple of 4."""
    return int(data.reshape(-1, BLOCK_HEIGHT, data.shape[1]).any(axis=1).sum())


def dense_bytes(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1] * VALUE_BYTES


def block_bytes(shape: tuple[int, int], blocks: int) -> int:
    return blocks * (BLOCK_HEIGHT * VALUE_BYTES + INDEX_BYTES) + (shape[0] // BLOCK_HEIGHT + 1) * OFFSET_BYTES


def encoded(tensor: Tensor) -> Tensor:
    """The s8 weight of a linear in the smaller of the dense and the 4x1 block encoding."""
    n, k = tensor.data.shape
    if n % BLOCK_HEIGHT == 0 and k <= MAX_BLOCK_COLUMNS:
        smaller = block_bytes((n, k), nonzero_blocks(tensor.data)) < dense_bytes((n, k))
        return Tensor(tensor.name, tensor.data, tensor.scale, "block" if smaller else "dense")
    return Tensor(tensor.name, tensor.data, tensor.scale, "dense")


def stored_bytes(tensor: Tensor) -> int:
    """Size of a tensor in the file, its scales included."""
    scales = 0 if tensor.scale is None else tensor.scale.nbytes
    if tensor.encoding == "block":
        n, k = tensor.data.shape
        return block_bytes((n, k), nonzero_blocks(tensor.data)) + scales
    return tensor.data.nbytes + scales
