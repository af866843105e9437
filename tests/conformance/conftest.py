"""A tiny sentence encoder, a tiny classifier, and texts to compress them with."""

from __future__ import annotations

from tests.compression.conftest import encoder_dir, texts_file

__all__ = ["encoder_dir", "texts_file"]
