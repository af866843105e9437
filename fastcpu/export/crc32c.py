"""CRC32C (Castagnoli) of large arrays with NumPy.

The data is cut into lanes of equal length whose checksums are computed side by side, two bytes a step, and then
joined pairwise: the CRC of ``a + b`` is that of ``a`` followed by as many zero bytes as ``b`` has, xor that of ``b``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # reflected
_LANE_BYTES = 4096
_MASK = 0xFFFFFFFF

U32 = NDArray[np.uint32]


@lru_cache(maxsize=1)
def _table() -> U32:
    """The effect of two bytes on a CRC of zero: 65536 entries."""
    crc = np.arange(65536, dtype=np.uint32)
    for _ in range(16):
        crc = np.where(crc & 1, (crc >> 1) ^ np.uint32(_POLYNOMIAL), crc >> 1)
    return crc.astype(np.uint32)


def _apply(matrix: U32, crc: U32) -> U32:
    """Multiply a bit matrix (32 columns) with each CRC."""
    result = np.zeros_like(crc)
    for bit in range(32):
        result ^= np.where((crc >> np.uint32(bit)) & 1, matrix[bit], np.uint32(0))
    return result


def _zeros(count: int) -> U32:
    """The bit matrix of ``count`` zero bytes."""
    unit = np.uint32(1) << np.arange(32, dtype=np.uint32)
    power: U32 = np.where(unit & 1, (unit >> 1) ^ np.uint32(_POLYNOMIAL), unit >> 1).astype(np.uint32)
    result: U32 = unit.astype(np.uint32)
    bits = 8 * count
    while bits:
        if bits & 1:
            result = _apply(power, result)
        power = _apply(power, power)
        bits >>= 1
    return result


def _tail(crc: int, data: NDArray[np.uint8]) -> int:
    table = _table()
    for byte in data.tolist():
        # A byte is shifted in above the zero byte that a two-byte step would add.
        index = (crc ^ byte) & 0xFF
        crc = (crc >> 8) ^ int(table[index << 8])
    return crc


def crc32c(array: NDArray[Any]) -> int:
    """The checksum of the bytes of a C-contiguous array."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    lanes = data.size // _LANE_BYTES
    crc = _MASK
    if lanes:
        table = _table()
        words = data[: lanes * _LANE_BYTES].view("<u2").reshape(lanes, -1).T
        state = np.zeros(lanes, np.uint32)
        for start in range(0, len(words), 64):
            for word in np.ascontiguousarray(words[start : start + 64]):
                state = table[(state ^ word) & 0xFFFF] ^ (state >> np.uint32(16))
        crc = _join(state, crc)
    return _tail(crc, data[lanes * _LANE_BYTES :]) ^ _MASK


def _join(state: U32, crc: int) -> int:
    """Join the lanes, in order, behind a running CRC."""
    length = _LANE_BYTES * len(state)
    start = int(_apply(_zeros(length), np.array([crc], np.uint32))[0])
    width = _LANE_BYTES
    while len(state) > 1:
        if len(state) % 2:
            # A lane of zeros with a CRC of zero in front changes nothing.
            state = np.concatenate([np.zeros(1, np.uint32), state])
        state = _apply(_zeros(width), state[0::2]) ^ state[1::2]
        width *= 2
    return start ^ int(state[0])
