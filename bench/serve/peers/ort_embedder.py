"""Sentence embeddings with ONNX Runtime and the tokenizers library alone, for servers that bring no model code."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 32


def mean_pooled(hidden: NDArray[Any], mask: NDArray[Any]) -> NDArray[np.float32]:
    """Unit vectors [B, H]: the mean of `hidden` [B, S, H] over the tokens of `mask` [B, S], normalized."""
    weights = mask.astype(np.float32)
    sums: NDArray[np.float32] = np.matmul(weights[:, None, :], hidden.astype(np.float32, copy=False))[:, 0]
    # The mean and the sum have the same direction.
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


class OrtEmbedder:
    """The one ONNX file of a directory with tokenizer.json; texts are sorted by length and run in batches of 32."""

    def __init__(self, directory: Path, threads: int) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        (path,) = sorted(directory.rglob("*.onnx"))
        settings = directory / "sentence_bert_config.json"
        longest = json.loads(settings.read_text())["max_seq_length"] if settings.exists() else 512
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(longest)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors [texts, H]."""
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        lengths = np.array([len(one) for one in encoded])
        order = np.argsort(lengths, kind="stable")
        rows: list[NDArray[np.float32]] = []
        for first in range(0, len(order), BATCH):
            part = order[first : first + BATCH]
            ids = np.zeros((len(part), int(lengths[part[-1]])), np.int64)
            mask = np.zeros_like(ids)
            for row, index in enumerate(part):
                ids[row, : lengths[index]] = encoded[index].ids
                mask[row, : lengths[index]] = 1
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = self._session.run(None, {name: feeds[name] for name in self._inputs})[0]
            rows.append(mean_pooled(hidden, mask))
        vectors = np.empty((len(order), rows[0].shape[1] if rows else 0), np.float32)
        vectors[order] = np.concatenate(rows) if rows else vectors
        return vectors


def warm_up(embedder: Any, seconds: float = 1.0) -> None:
    """Runs `embedder.encode` at several sizes for about `seconds`."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for count in (1, 8, BATCH):
            embedder.encode([f"a sentence to warm up with, number {index}" for index in range(count)])
