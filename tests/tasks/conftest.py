"""A tokenizer without a model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.models import save_tokenizer


@pytest.fixture
def tokenizer_dir(tmp_path: Path) -> Path:
    """The tokenizer of the tiny models, and a config.json that allows 24 positions."""
    pytest.importorskip("tokenizers")
    save_tokenizer(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"
