"""Sentence embeddings through the runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError
from fastcpu.tasks.tokenizer import Encoded, IntArray, Tokenizer

FloatArray = npt.NDArray[np.float32]

OUTPUT = "sentence_embedding"
_BATCH_TOKENS = (
    8192  # tokens per run: enough to fill all threads, small enough for the activations to stay in the caches
)


class Embedder:
    """Embeds texts with a compressed sentence encoder.

    A text's vector has the same bits whatever it is embedded together with, and on every CPU.

    Args:
        model_dir: directory written by `fastcpu.compile`, with its tokenizer.json.
        threads: threads per run; by default all CPUs available to this process.
        max_length: longest text in tokens; longer ones are cut. By default what the model was made for.
    """

    def __init__(self, model_dir: Path | str, threads: int | None = None, max_length: int | None = None) -> None:
        from fastcpu import Session

        self.tokenizer = Tokenizer(model_dir, max_length)
        self._session = Session(model_dir, threads=threads or 0)
        if OUTPUT not in (output.name for output in self._session.outputs):
            raise InputError(f"{str(model_dir)!r} has no output {OUTPUT!r}: it is not a sentence encoder")
        self._names = {spec.role: spec.name for spec in self._session.inputs}

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """One L2-normalized vector per text: [texts, channels]."""
        encoded = self.tokenizer.encode(texts)
        if not encoded:
            raise InputError("no text to embed")
        vectors = np.concatenate([self._session.run(self._feeds(batch))[OUTPUT] for batch in _batches(encoded)])
        norms = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
        normalized: FloatArray = vectors / np.maximum(norms, np.float32(1e-12))
        return normalized

    def _feeds(self, batch: Sequence[Encoded]) -> dict[str, list[IntArray]]:
        """The model's inputs under the names it has for them. Ragged sequences need no mask."""
        feeds = {self._names["ids"]: [encoded.ids for encoded in batch]}
        if "types" in self._names:
            feeds[self._names["types"]] = [encoded.types for encoded in batch]
        return feeds


def _batches(texts: Sequence[Encoded]) -> Iterator[list[Encoded]]:
    """`texts` in order, cut into batches of about _BATCH_TOKENS tokens."""
    batch: list[Encoded] = []
    tokens = 0
    for encoded in texts:
        if batch and tokens + len(encoded.ids) > _BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(encoded)
        tokens += len(encoded.ids)
    if batch:
        yield batch
