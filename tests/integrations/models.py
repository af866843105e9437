"""Tiny models of transformers with a tokenizer, as directories; and what torch answers for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from numpy.typing import NDArray
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from fastcpu.recipe import Recipe

F32 = Recipe("f32", "Nothing is pruned or quantized, so that answers are those of torch.")
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"word{i}" for i in range(75)]
VOCABULARY = [*SPECIAL, *WORDS]
LABELS = {0: "red", 1: "green", 2: "blue"}
LENGTH = 40


def tokenizer(lower: bool = False, types: bool = True) -> Any:
    """One token per word, for single texts and pairs, with token types or without."""
    fast = tokenizers.Tokenizer(WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    fast.pre_tokenizer = Whitespace()
    if lower:
        fast.normalizer = Lowercase()
    fast.post_processor = TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=LENGTH,
        model_input_names=["input_ids", *(["token_type_ids"] if types else []), "attention_mask"],
    )


def module(architecture: str, seed: int = 0, **settings: Any) -> Any:
    """2 layers, 32 channels, 2 heads; every weight random, biases and norms too."""
    sizes: dict[str, Any] = {"vocab_size": len(VOCABULARY), "max_position_embeddings": LENGTH} | settings
    if not architecture.endswith(("Model", "ForMaskedLM", "ForQuestionAnswering")) and "num_labels" not in settings:
        sizes |= {"id2label": LABELS, "label2id": {label: i for i, label in LABELS.items()}}
    if architecture.startswith("DistilBert"):
        config: Any = transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **sizes)
    else:
        config = transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **sizes
        )
    torch.manual_seed(seed)
    made = getattr(transformers, architecture)(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


def write(folder: Path, architecture: str, seed: int = 0, lower: bool = False, **settings: Any) -> Path:
    """A directory as transformers writes it."""
    module(architecture, seed, **settings).save_pretrained(folder)
    tokenizer(lower, types=architecture.startswith("Bert")).save_pretrained(folder)
    return folder


def as_sentence_transformer(
    folder: Path, mode: str = "mean", normalize: bool = True, files: dict[str, dict[str, Any]] | None = None
) -> Path:
    """Add what sentence-transformers writes to a directory of transformers; ``files`` are further JSON files."""
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    listed = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, f"pooling_mode_{mode}_token{'s' * (mode != 'cls')}": True}
    contents: dict[str, Any] = {"modules.json": listed, "1_Pooling/config.json": pooling} | (files or {})
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def texts(rng: np.random.Generator, count: int, longest: int = 20) -> list[str]:
    """Random texts of 1 to ``longest`` words."""
    return [" ".join(rng.choice(WORDS, rng.integers(1, longest + 1))) for _ in range(count)]


def torch_outputs(folder: Path, batch: Sequence[Any]) -> tuple[Any, NDArray[Any]]:
    """What the model of a directory answers in torch to texts or pairs, and its mask."""
    config = json.loads((folder / "config.json").read_text())
    loaded = getattr(transformers, config["architectures"][0]).from_pretrained(folder).eval()
    pairs = [(text,) if isinstance(text, str) else tuple(text) for text in batch]
    columns = [list(column) for column in zip(*pairs, strict=True)]
    opened = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = opened(*columns, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        return loaded(**inputs), inputs["attention_mask"].numpy()


def pooled(folder: Path, batch: Sequence[str], mode: str = "mean", normalize: bool = True) -> NDArray[Any]:
    """Sentence embeddings by torch: the reference of what sentence-transformers defines."""
    outputs, mask = torch_outputs(folder, batch)
    hidden = outputs.last_hidden_state.numpy()
    how = {"mean": lambda row: row.mean(axis=0), "max": lambda row: row.max(axis=0), "cls": lambda row: row[0]}
    rows = np.stack([how[mode](row[real.astype(bool)]) for row, real in zip(hidden, mask, strict=True)])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalize else rows
