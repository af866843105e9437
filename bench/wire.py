"""Messages between the benchmark and its worker processes: a JSON header and NumPy arrays over a pipe.

A message is two little-endian uint64 (bytes of header, bytes of arrays), the UTF-8 JSON header, then the arrays in
the order of header["arrays"], a list of groups {name: [dtype, shape]}. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ArrayGroup = Mapping[str, NDArray[Any]]
Message = tuple[dict[str, Any], list[dict[str, NDArray[Any]]]]

_SIZES = struct.Struct("<QQ")


def send(descriptor: int, header: Mapping[str, Any], groups: Sequence[ArrayGroup] = ()) -> None:
    """Writes one message to the pipe `descriptor`; `header` must not have a key "arrays"."""
    described = [{name: [array.dtype.str, list(array.shape)] for name, array in group.items()} for group in groups]
    payload = b"".join(np.ascontiguousarray(array).tobytes() for group in groups for array in group.values())
    text = json.dumps({**header, "arrays": described}).encode()
    rest = memoryview(_SIZES.pack(len(text), len(payload)) + text + payload)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read_exactly(descriptor: int, size: int, deadline: float | None) -> bytes:
    chunks = bytearray()
    while len(chunks) < size:
        if deadline is not None:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("no answer in time")
        chunk = os.read(descriptor, min(size - len(chunks), 1 << 20))
        if not chunk:
            raise EOFError("the other side closed the pipe")
        chunks += chunk
    return bytes(chunks)


def receive(descriptor: int, timeout: float | None = None) -> Message:
    """Reads one message; TimeoutError after `timeout` seconds, EOFError if the pipe closes before its end."""
    deadline = None if timeout is None else time.monotonic() + timeout
    text_size, payload_size = _SIZES.unpack(_read_exactly(descriptor, _SIZES.size, deadline))
    header = json.loads(_read_exactly(descriptor, text_size, deadline))
    payload = _read_exactly(descriptor, payload_size, deadline)
    groups: list[dict[str, NDArray[Any]]] = []
    offset = 0
    for described in header.pop("arrays"):
        group = {}
        for name, (dtype, shape) in described.items():
            count = int(np.prod(shape, dtype=np.int64))
            group[name] = np.frombuffer(payload, np.dtype(dtype), count, offset).reshape(shape)
            offset += count * np.dtype(dtype).itemsize
        groups.append(group)
    return header, groups
