"""Tiny models of every task, and engines that need none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.export import write_model
from fastcpu.tasks.engine import padded
from fastcpu.tasks.tokenizer import Encoded
from tests.reference import graphs

WORDS = [
    *(
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "a",
        "red",
        "green",
        "blue",
        "small",
        "large",
        "house",
        "car",
    ),
    *("dog", "cat", "is", "of", "in", "and", "Anna", "Paul", "London", "Paris", "lives", "works", "who", "where", "?"),
    *(".", ",", "-", "##s", "##ing", "##land", "'", "Scot", "play"),
]
LENGTH = 24
"""Longest sequence of the models."""

LABELS = {
    "tag": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"],
    "classify": ["bad", "good", "neither"],
    "rerank": ["LABEL_0"],
}
HEADS = {"classify": "classifier", "embed": "embedding", "fill_mask": "tagger", "qa": "qa", "rerank": "classifier"}


def save_tokenizer(folder: Path, **config: Any) -> None:
    """A WordPiece tokenizer of WORDS as BERT has it, and a config.json."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.add_special_tokens(list(WORDS[:5]))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": LENGTH} | config))


def labelled(task: str) -> dict[str, Any]:
    """The id2label of a task's config.json."""
    return {"id2label": {str(i): label for i, label in enumerate(LABELS[task])}} if task in LABELS else {}


def channels(task: str) -> int:
    """Width of a task's head."""
    return len(WORDS) if task == "fill_mask" else len(LABELS.get(task, "x"))


def compiled(task: str, folder: Path, seed: int = 0) -> Path:
    """A model directory for a task, written without torch."""
    architectures = {"architectures": ["BertForMaskedLM"]} if task == "fill_mask" else {}
    save_tokenizer(folder / "source", **labelled(task), **architectures)
    graph = graphs.encoder(head=HEADS.get(task, "tagger"), length=LENGTH, labels=channels(task), seed=seed)
    return write_model(graph, folder / task, folder / "source")


def huggingface(task: str, head: str, family: str, folder: Path) -> Path:
    """The same as transformers saves it, random weights and biases."""
    import torch
    import transformers

    sizes = {"vocab_size": len(WORDS), "max_position_embeddings": LENGTH, **labelled(task)}
    if family == "Bert":
        config: Any = transformers.BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, **sizes
        )
    else:
        config = transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, **sizes)
    torch.manual_seed(0)
    module = getattr(transformers, family + head)(config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    save_tokenizer(folder)
    module.save_pretrained(folder)
    return folder


class FakeEngine:
    """Computes the outputs of each sequence from its ids alone.

    Args:
        directory: with tokenizer.json.
        outputs: as `Engine.outputs`.
        answer: ids of one sequence -> its row of every output.
        max_rows: as `Engine.max_rows`.
    """

    def __init__(
        self,
        directory: Path,
        outputs: Mapping[str, tuple[int | str, ...]],
        answer: Callable[[NDArray[np.int64]], Mapping[str, Any]],
        max_rows: int | None = None,
    ) -> None:
        self.directory, self.outputs, self.max_rows = directory, outputs, max_rows
        self._answer = answer
        self.batches: list[list[int]] = []

    def run(self, batch: Sequence[Encoded], outputs: Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
        self.batches.append([len(each.ids) for each in batch])
        longest = padded(batch)["ids"].shape[1]
        rows = [self._answer(each.ids) for each in batch]
        result = {}
        for name, axes in self.outputs.items():
            if outputs is not None and name not in outputs:
                continue
            arrays = [np.asarray(row[name], np.float32) for row in rows]
            if axes[1:2] == ("sequence",):
                pads = [((0, longest - len(each)), *[(0, 0)] * (each.ndim - 1)) for each in arrays]
                arrays = [np.pad(each, pad, constant_values=1e9) for each, pad in zip(arrays, pads, strict=True)]
            result[name] = np.stack(arrays)
        return result
