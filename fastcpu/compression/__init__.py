"""From a model to a smaller, faster one with training: what `fastcpu compress` does."""

from __future__ import annotations

from fastcpu.compression.plan import Plan
from fastcpu.compression.run import compress

__all__ = ["Plan", "compress"]
