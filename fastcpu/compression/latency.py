"""How fast a candidate is, measured in the runtime beside the dense model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from fastcpu.runtime import Session

_ROUNDS = 15
_SECONDS = 2.0
"""Rounds go on until there are so many and so much time has passed."""
_TURN_SECONDS = 0.02
"""A turn takes at least so long, so that the clock and the switch between models do not show in it."""


@dataclass(frozen=True)
class Latency:
    """Medians over rounds in which the dense model and the candidate took turns.

    Attributes:
        milliseconds: of a run of the candidate.
        dense_milliseconds: of a run of the dense model.
        speedup: of the candidate over the dense model, a ratio per round.
    """

    milliseconds: float
    dense_milliseconds: float
    speedup: float


def measure_beside(dense: Path, model: Path, feeds: Mapping[str, Any], threads: int) -> Latency:
    """Times two model directories in turns on the same inputs.

    Args:
        dense: executed without the use of its zeros.
        model: the candidate.
        feeds: a batch, as `fastcpu.Session.run` takes it.
        threads: threads per run.
    """
    sessions = (Session(dense, threads=threads, execution="dense"), Session(model, threads=threads))
    turns = [_repeats(session, feeds) for session in sessions]
    rounds: list[tuple[float, ...]] = []
    end = time.perf_counter() + _SECONDS
    while len(rounds) < _ROUNDS or time.perf_counter() < end:
        rounds.append(tuple(_time(session, feeds, count) for session, count in zip(sessions, turns, strict=True)))
    return Latency(
        milliseconds=1000 * median(mine for _, mine in rounds),
        dense_milliseconds=1000 * median(theirs for theirs, _ in rounds),
        speedup=median(theirs / mine for theirs, mine in rounds),
    )


def _repeats(session: Session, feeds: Mapping[str, Any]) -> int:
    """Runs that make a turn, found after warming up."""
    _time(session, feeds, 3)
    return max(1, round(_TURN_SECONDS / _time(session, feeds, 2)))


def _time(session: Session, feeds: Mapping[str, Any], count: int) -> float:
    """Seconds of a run, a mean of some."""
    began = time.perf_counter()
    for _ in range(count):
        session.run(feeds)
    return (time.perf_counter() - began) / count
