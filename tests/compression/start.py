"""Compressions that look at the clock only briefly, and the command line in a process that a test has forked."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from fastcpu import _core

_peak = cache(_core.measure_peak)
"""Measured once per process."""


def shorten(set_: Callable[[Any, str, Any], None] = setattr) -> None:
    """Makes measurements of time short: no test looks at their results."""
    from fastcpu.compression import latency, measure

    set_(_core, "measure_peak", _peak)
    set_(measure, "_ROUND_SECONDS", 0.002)
    set_(measure, "_PROFILE_SECONDS", 0.01)
    set_(latency, "_SECONDS", 0.02)
    set_(latency, "_TURN_SECONDS", 0.001)


def start(arguments: Sequence[str], log: str, prepare: Callable[[], None] = shorten) -> None:
    """Runs a command after some preparation and ends the process with its status; what it prints goes to a file."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from fastcpu.cli.main import main

    prepare()
    os._exit(main(arguments))
