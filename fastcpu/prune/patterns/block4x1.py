"""4 consecutive output channels of one input channel: the blocks of the spmm_u8s8 kernel."""

from __future__ import annotations

from fastcpu.graph.limits import BLOCK_HEIGHT
from fastcpu.prune.pattern import Pattern

PATTERN = Pattern(name="4x1", rows=BLOCK_HEIGHT, columns=1)
