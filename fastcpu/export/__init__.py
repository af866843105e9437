"""Graph -> model directory."""

from __future__ import annotations

from fastcpu.export.writer import write_model

__all__ = ["write_model"]
