"""Pruning patterns: which weights of a linear are zeroed together.

To add one: a file here with a ``PATTERN``, and its line below.
"""

from __future__ import annotations

from fastcpu.prune.pattern import Pattern
from fastcpu.prune.patterns import block4x1, unstructured

PATTERNS: dict[str, Pattern] = {
    pattern.name: pattern
    for pattern in (
        block4x1.PATTERN,
        unstructured.PATTERN,
    )
}
