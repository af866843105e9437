"""What the C library does with memory while a model trains."""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD = 64 << 20


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, where the C library is glibc, and asks torch for huge pages.

    A step of training frees all that it has allocated. Tensors of 128 KiB and more would go back to the system, which
    clears every page again when the next step touches it: a tenth of a step of MiniLM on Zen 4.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first large allocation
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_MAX, 0)
        set_option(_M_TRIM_THRESHOLD, 2**31 - 1)
        set_option(_M_TOP_PAD, _TOP_PAD)
