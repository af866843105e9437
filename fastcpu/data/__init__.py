"""Texts to train, calibrate and evaluate with."""

from __future__ import annotations

from fastcpu.data.contamination import Contamination, decontaminate
from fastcpu.data.texts import read_texts, sample

__all__ = ["Contamination", "decontaminate", "read_texts", "sample"]
