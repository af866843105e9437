"""4 consecutive output channels of one input channel: the blocks of the spmm_u8s8 kernel."""

from __future__ import annotations

from fastcpu.prune.pattern import Pattern

PATTERN = Pattern(name="4x1", rows=4, columns=1, kernel="spmm_u8s8")
