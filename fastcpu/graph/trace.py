"""Why a pattern did not match: a list that `fastcpu doctor` shows, and a log for whoever debugs a pass.

``FASTCPU_GRAPH_DEBUG=1`` prints the logger ``fastcpu.graph`` to standard error.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field

logger = logging.getLogger("fastcpu.graph")

if os.environ.get("FASTCPU_GRAPH_DEBUG") == "1":
    _handler = logging.StreamHandler()
    _handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logger.addHandler(_handler)
    logger.setLevel(logging.DEBUG)


@dataclass(frozen=True)
class Miss:
    """A pattern that looked at a node, could not take it, and why."""

    pattern: str
    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.pattern} did not match at '{self.node}': {self.reason}"


@dataclass
class Trace:
    """The misses of one import or one run of the passes, in order."""

    misses: list[Miss] = field(default_factory=list)

    def miss(self, pattern: str, node: str, reason: str) -> None:
        """Record that ``pattern`` did not match at ``node``."""
        found = Miss(pattern, node, reason)
        self.misses.append(found)
        logger.debug("%s", found)

    def note(self, rewrite: str, node: str, what: str) -> None:
        """Say in the log what ``rewrite`` did at ``node``."""
        logger.debug("%s at '%s': %s", rewrite, node, what)

    def at(self, node: str) -> str:
        """The reasons recorded for ``node``, joined for an error message."""
        return "; ".join(f"{miss.pattern}: {miss.reason}" for miss in self.misses if miss.node == node)
