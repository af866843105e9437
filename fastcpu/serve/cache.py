"""Answers that are kept: the same text gives the same result, so it need not be computed twice."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np

_OVERHEAD = 256  # bytes of an entry beside text and result


class Cache:
    """Results by key, the least recently used forgotten first.

    Args:
        capacity: bytes, as far as they can be estimated; 0 keeps nothing.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._size = 0

    def __bool__(self) -> bool:
        return self._capacity > 0

    @property
    def size(self) -> int:
        """Bytes in use."""
        return self._size

    def get(self, key: Hashable) -> Any:
        """The result for `key`, or None."""
        found = self._entries.get(key)
        if found is None:
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, result: Any) -> None:
        """Keeps a result; one that is larger than the whole cache is not kept."""
        result = _owned(result)
        size = _OVERHEAD + _size(key) + _size(result)
        if size > self._capacity:
            return
        if key in self._entries:
            self._size -= self._entries.pop(key)[1]
        self._entries[key] = result, size
        self._size += size
        while self._size > self._capacity:
            _, (_, freed) = self._entries.popitem(last=False)
            self._size -= freed

    def forget(self, first: Hashable) -> None:
        """Forgets all keys that are tuples beginning with `first`."""
        for key in [key for key in self._entries if isinstance(key, tuple) and key[0] == first]:
            self._size -= self._entries.pop(key)[1]


def _owned(value: Any) -> Any:
    """`value` with arrays of its own: a view would keep the whole array of its request alive."""
    if isinstance(value, np.ndarray):
        return value if value.base is None else value.copy()
    if type(value) in (tuple, list):
        return type(value)(map(_owned, value))
    return value


def _size(value: Any) -> int:
    """Bytes of a key or result, with what it holds; what two hold counts twice."""
    size = sys.getsizeof(value)
    if isinstance(value, (tuple, list)):
        return size + sum(map(_size, value))
    held = getattr(value, "__dict__", None)
    return size if held is None else size + _size(tuple(held.values()))
