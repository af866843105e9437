"""How much of a CPU the generator had, and how much more it would have used."""

from __future__ import annotations

from pathlib import Path
from time import monotonic, thread_time

_SCHEDULER = Path("/proc/thread-self/schedstat")


class Usage:
    """What this thread does from now until the first call of `stop`.

    Attributes:
        busy: share of the time in which it ran.
        starved: share in which it could have run, but other threads had the CPU; 0 where the system does not tell.
    """

    def __init__(self) -> None:
        self.busy = self.starved = 0.0
        self._stopped = False
        self._waited, self._ran, self._begun = _waited(), thread_time(), monotonic()

    def stop(self) -> None:
        """The first call ends the time."""
        if self._stopped:
            return
        self._stopped = True
        passed = monotonic() - self._begun
        self.busy = min(1.0, (thread_time() - self._ran) / passed)
        self.starved = min(1.0, (_waited() - self._waited) / passed)


def _waited() -> float:
    """Seconds for which this thread has waited for a CPU so far."""
    try:
        return int(_SCHEDULER.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
