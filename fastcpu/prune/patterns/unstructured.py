"""Every weight on its own. No kernel gains from it; for comparison and as a start for other tools."""

from __future__ import annotations

from fastcpu.prune.pattern import Pattern

PATTERN = Pattern(name="unstructured", rows=1, columns=1)
