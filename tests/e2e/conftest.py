"""Real models, compiled once per run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastcpu

# Text that every clone has; FASTCPU_DATA replaces it where it is set.
_FALLBACK = Path(__file__).resolve().parents[2] / "LICENSE"


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """A few hundred lines of real text."""
    import os

    folder = os.environ.get("FASTCPU_DATA")
    path = Path(folder) / "wikitext2" / "valid.txt" if folder else _FALLBACK
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if len(line) > 3][:600]


def tokenizer(path: Path, max_length: int = 128) -> Any:
    """The tokenizer of a model directory, without padding."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(path / "tokenizer.json"))
    loaded.no_padding()
    loaded.enable_truncation(max_length)
    return loaded


def padded(rows: list[NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """Rows of token ids as ``input_ids`` and ``attention_mask``."""
    length = max(len(row) for row in rows)
    ids = np.zeros((len(rows), length), np.int64)
    mask = np.zeros_like(ids)
    for b, row in enumerate(rows):
        ids[b, : len(row)] = row
        mask[b, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="session")
def minilm_rows(minilm_dir: Path, sentences: list[str]) -> list[NDArray[np.int64]]:
    return [np.array(e.ids) for e in tokenizer(minilm_dir).encode_batch(sentences)]


@pytest.fixture(scope="session")
def minilm_f32(minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    return fastcpu.compile(minilm_dir, tmp_path_factory.mktemp("minilm") / "f32").directory


@pytest.fixture(scope="session", params=["static", "static sparse", "dynamic"])
def minilm_int8(
    request: pytest.FixtureRequest, minilm_dir: Path, sentences: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """all-MiniLM-L6-v2 in int8: static, static with half of its blocks pruned, dynamic."""
    pytest.importorskip("torch")
    kind, _, sparse = request.param.partition(" ")
    return fastcpu.compile(
        minilm_dir,
        tmp_path_factory.mktemp("minilm") / "int8",
        quantize=kind,
        calibration=sentences[:32] if kind == "static" else None,
        sparsity=0.5 if sparse else None,
    ).directory


@pytest.fixture(scope="session")
def distilbert_int8(sentences: list[str], minilm_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DistilBERT-base for question answering, random weights, every encoder linear at 80 % zero blocks, static int8."""
    torch = pytest.importorskip("torch")
    from transformers import DistilBertConfig, DistilBertForQuestionAnswering

    torch.manual_seed(0)
    encoded = [e.ids for e in tokenizer(minilm_dir, 32).encode_batch(sentences[:8])]
    return fastcpu.compile(
        DistilBertForQuestionAnswering(DistilBertConfig()).eval(),
        tmp_path_factory.mktemp("distilbert") / "int8",
        quantize="static",
        calibration=[padded([np.array(ids) for ids in encoded])],
        sparsity=0.8,
    ).directory
