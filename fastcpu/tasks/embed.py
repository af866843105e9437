"""Sentence embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastcpu.errors import InputError
from fastcpu.frontend.sentence_transformers import Dense, Pooling, read_pooling
from fastcpu.graph.ir import EMBEDDING
from fastcpu.tasks.engine import FloatArray, Model, Rows
from fastcpu.tasks.task import Task, Work
from fastcpu.tasks.tokenizer import Encoded, Text

_HIDDEN = "last_hidden_state"


class Embedder(Task[Text, FloatArray]):
    """Embeds texts: one L2-normalized vector [channels] for each.

    Takes the output `sentence_embedding` where the model has it. Otherwise `last_hidden_state` is pooled here as
    sentence-transformers would, which is the mean over the tokens where no modules.json says another way.
    """

    name = "embed"
    head = "Model"

    def __init__(self, model: Model, threads: int | None = None, max_length: int | None = None) -> None:
        super().__init__(model, threads, max_length)
        self._pooling: Pooling | None = None
        self._dense: tuple[Dense, ...] = ()
        if EMBEDDING in self.engine.outputs:
            self._source, self.channels = self._output(EMBEDDING, "batch")
        elif _HIDDEN in self.engine.outputs:
            self._source, self.channels = self._output(_HIDDEN, "batch", "sequence")
            self._pooling = _pooling(self.engine.directory)
            self._dense = self._pooling.dense
            self.channels = self._pooling.channels(self.channels)
        else:
            raise self._refusal(f"{EMBEDDING} [batch, channels] or {_HIDDEN} [batch, sequence, channels]")

    def embed(self, texts: Sequence[Text]) -> FloatArray:
        """The vectors of texts: [texts, channels]. InputError if there are none."""
        vectors = self(texts)
        if not vectors:
            raise InputError("no text to embed")
        return np.stack(vectors)

    def prepare(self, inputs: Sequence[Text], first: int = 0) -> Work[FloatArray]:
        return self.prepare_tokens(self.tokenizer.encode(inputs, first))

    def prepare_tokens(self, sequences: Sequence[Encoded], normalize: bool = True) -> Work[FloatArray]:
        """The work of texts that are tokens already, special tokens included; `normalize`: to vectors of length 1."""
        vectors = np.empty((len(sequences), self.channels), np.float32)

        def take(indices: Sequence[int], rows: tuple[Rows, ...]) -> None:
            vectors[indices] = self._pooled(rows[0])

        def results() -> list[FloatArray]:
            if not normalize:
                return list(vectors)
            norms = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
            return list(vectors / np.maximum(norms, np.float32(1e-12)))

        return Work(sequences, (self._source,), take, results)

    def prepare_hidden(self, sequences: Sequence[Encoded]) -> Work[FloatArray]:
        """The work that gives the vectors of all tokens: [tokens, channels] for every sequence.

        InputError if the model gives a vector for a text alone.
        """
        source, _ = self._output(_HIDDEN, "batch", "sequence")
        found: list[FloatArray] = [np.empty(0, np.float32)] * len(sequences)

        def take(indices: Sequence[int], rows: tuple[Rows, ...]) -> None:
            for index, values in zip(indices, rows[0], strict=True):
                found[index] = values.copy()

        return Work(sequences, (source,), take, lambda: found)

    def _pooled(self, rows: Rows) -> Rows:
        """Vectors of `rows`, which are vectors already or have a row per token."""
        if self._pooling is None:
            return rows
        mode = self._pooling.mode
        found = []
        for values in rows:
            pooled: FloatArray = values[0]
            if mode != "cls":
                pooled = values.max(axis=0) if mode == "max" else values.mean(axis=0)
            for dense in self._dense:
                pooled = dense(pooled)
            found.append(pooled)
        return found


def _pooling(directory: Path) -> Pooling:
    """How sentence-transformers pools the tokens of a model; `directory` is its own or that of its transformer."""
    found = read_pooling(directory)
    if found is None:
        found = read_pooling(directory.parent)
        if found is not None and found[1] != directory:
            found = None
    return Pooling("mean", True) if found is None else found[0]
