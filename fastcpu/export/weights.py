"""weights.safetensors: a standard file whose tensors all start at multiples of 64 bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64
DTYPES = {"int8": "I8", "uint8": "U8", "uint16": "U16", "int32": "I32", "uint32": "U32", "float32": "F32"}

Arrays = Mapping[str, NDArray[Any]]


def _layout(arrays: Arrays) -> tuple[dict[str, dict[str, Any]], int]:
    """The header without padding of its own, and the size of the data. Pads fill the gaps: the format forbids holes."""
    header: dict[str, dict[str, Any]] = {}
    position = pads = 0
    for name, array in arrays.items():
        gap = -position % ALIGNMENT
        if gap:
            header[f"_pad.{pads}"] = {"dtype": "U8", "shape": [gap], "data_offsets": [position, position + gap]}
            position, pads = position + gap, pads + 1
        end = position + array.nbytes
        header[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [position, end],
        }
        position = end
    return header, position


def write(path: Path, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Write C-contiguous ``arrays`` in their order, and ``metadata``; OSError as the system raises it."""
    header, _ = _layout(arrays)
    text = json.dumps({"__metadata__": metadata} | header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        position = 0
        for array in arrays.values():
            gap = -position % ALIGNMENT
            file.write(bytes(gap))
            little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
            file.write(little.reshape(-1).view(np.uint8).data)
            position += gap + array.nbytes
