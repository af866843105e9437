"""An alarm that rings to the microsecond: those of event loops round to milliseconds."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable

from fastcpu.errors import ResourceError

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC have these values


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Time), ("value", _Time))


class Alarm:
    """Calls back once for every time that it is set; Linux's timerfd.

    Raises:
        ResourceError: the system has no such timer, or no file descriptor left for it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._setting = _Setting()
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            self._set_time = libc.timerfd_settime
            self._descriptor: int = libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS)
        except (AttributeError, OSError) as error:
            raise ResourceError("the system has no timerfd, which open loops need") from error
        if self._descriptor < 0:
            raise ResourceError(f"timerfd: {os.strerror(ctypes.get_errno())}")
        loop.add_reader(self._descriptor, callback)

    def set(self, time: int) -> None:
        """Rings at `time`, in nanoseconds of `time.monotonic_ns`, or at once if that is past.

        Whoever is called must set it again or close it; it rings until then.
        """
        value = self._setting.value
        value.seconds, value.nanoseconds = divmod(max(time, 1), 1_000_000_000)
        self._set_time(self._descriptor, _ABSOLUTE, ctypes.byref(self._setting), None)

    def close(self) -> None:
        """More than once does no harm."""
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
