"""The speed that a search is to reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastcpu.errors import InputError


@dataclass(frozen=True)
class Target:
    """A speed, and the runs that it is measured on; without one, the fastest model that the gate accepts is looked for.

    Attributes:
        speedup: how many times as fast as the dense int8 model of the same recipe.
        milliseconds: longest time of a run.
        batch: sequences per run.
        sequence: tokens per sequence; None: 128, or as many as the model takes.
    """

    speedup: float | None = None
    milliseconds: float | None = None
    batch: int = 8
    sequence: int | None = None

    def checked(self) -> Target:
        """The target itself; InputError if it is none."""
        if self.speedup is not None and self.milliseconds is not None:
            raise InputError("give a target speed-up or a target latency, not both")
        if self.speedup is not None and not 1 < self.speedup < math.inf:
            raise InputError(
                f"a target speed-up is over dense int8 and so must be above 1, not {self.speedup:g} "
                "(the recipe int8-static makes the dense model)"
            )
        if self.milliseconds is not None and not 0 < self.milliseconds < math.inf:
            raise InputError(f"a target latency is a positive number of milliseconds, not {self.milliseconds:g}")
        if self.batch < 1 or (self.sequence is not None and self.sequence < 1):
            raise InputError("the target's batch and sequence must be at least 1")
        return self

    @property
    def has_speed(self) -> bool:
        """False where only the gate decides."""
        return self.speedup is not None or self.milliseconds is not None

    def __str__(self) -> str:
        if self.speedup is not None:
            return f"{self.speedup:g}x dense int8"
        return "the highest speed" if self.milliseconds is None else f"{self.milliseconds:g} ms"
