"""A tiny sentence encoder and texts to compress it with."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.compression.start import shorten

WORDS = [f"word{i}" for i in range(90)]


@pytest.fixture(scope="session")
def encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers directory: BERT of 4 layers and 32 channels with random weights, mean pooling."""
    torch = pytest.importorskip("torch")
    import tokenizers
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel

    path = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config).save_pretrained(path)
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = tokenizers.Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.save(str(path / "tokenizer.json"))
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    listed = [
        {"idx": i, "name": str(i), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, folder) in enumerate(modules)
    ]
    (path / "modules.json").write_text(json.dumps(listed))
    (path / "1_Pooling").mkdir()
    (path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return path


@pytest.fixture(scope="session")
def texts_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 random texts of 2 to 20 words."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    lines = (" ".join(random.choice(WORDS, random.integers(2, 21))) for _ in range(600))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def sts_dir(encoder_dir: Path, tmp_path: Path) -> Path:
    """Pairs of random texts with words in common; the gold score is the cosine that the encoder itself gives in f32."""
    import fastcpu
    from fastcpu.tasks import Embedder

    random = np.random.default_rng(1)
    pairs = []
    for _ in range(60):
        first = list(random.choice(WORDS, 8))
        shared = int(random.integers(0, 9))
        pairs.append((" ".join(first), " ".join(first[:shared] + list(random.choice(WORDS, 8 - shared)))))
    embedder = Embedder(fastcpu.compile(encoder_dir, tmp_path / "f32").directory)
    first, second = (embedder.embed([pair[side] for pair in pairs]) for side in (0, 1))
    gold = (first.astype(np.float64) * second).sum(axis=1)
    folder = tmp_path / "sts"
    folder.mkdir()
    rows = ("\t".join(("g", "f", "2026", "0", f"{score:.12f}", *pair)) for score, pair in zip(gold, pairs, strict=True))
    (folder / "sts-dev.csv").write_text("\n".join(rows) + "\n")
    return folder


TRAINING = """
description = "for tests"
[prune]
sparsity = 0.5
interval = 2
[distill]
batch = 16
steps = {steps}
learning_rate = 1e-3
"""
RECIPE = TRAINING + "[student]\nlayers = 2\n[quantize]\ncalibration = 32\n"


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """Two of four layers, half of the blocks, 40 steps."""
    path = tmp_path / "tiny.toml"
    path.write_text(RECIPE.format(steps=40))
    return path


@pytest.fixture(scope="session")
def processes() -> Any:
    """Starts processes that have the libraries loaded, so that a kill finds them at work and not at importing them."""
    context = multiprocessing.get_context("forkserver")
    modules = ("torch", "transformers", "tokenizers", "onnx_ir", "onnxscript", "transformers.models.bert.modeling_bert")
    context.set_forkserver_preload([*modules, "fastcpu.compression.run", "fastcpu.distill.trainer", "fastcpu.frontend"])
    return context


@pytest.fixture(autouse=True)
def short_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at times here."""
    shorten(monkeypatch.setattr)
