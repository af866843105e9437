"""Distillation: a smaller or sparser student learns to give its teacher's outputs."""

from __future__ import annotations
