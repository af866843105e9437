"""An engine of the end-to-end benchmark with the interface of `fastcpu.Session`, so that the same wrappers run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.e2e.protocol import Engine
from bench.models import PreparedModel
from fastcpu.runtime import InputSpec, OutputSpec

ROLES = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}


class PeerSession:
    """Takes what a session takes; lists of sequences are padded to their longest.

    Args:
        engine: loaded, with a variant in use.
        model: what it runs.
        path: where config.json and the tokenizer are.
        channels: of each output.
        per_token: whether the outputs have a row per token.
        pooled: whether to give the output ``sentence_embedding`` too: the mean over the tokens, with length 1.
        length: lists are padded to this length at least, for engines of fixed shapes.
    """

    def __init__(
        self,
        engine: Engine,
        model: PreparedModel,
        path: Path,
        channels: int,
        per_token: bool,
        pooled: bool,
        length: int = 0,
    ) -> None:
        self.path = str(path)
        self.inputs = [InputSpec(name, ROLES[name], name == "token_type_ids") for name in model.inputs]
        dims: tuple[str | int, ...] = ("batch", "sequence", channels) if per_token else ("batch", channels)
        self.outputs = [OutputSpec(name, dims) for name in model.outputs]
        if pooled:
            self.outputs.append(OutputSpec("sentence_embedding", ("batch", channels)))
        self._engine = engine
        self._names = model.inputs
        self._pooled = pooled
        self._length = length

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
        """Outputs by name; ``feeds`` are arrays [batch, sequence], or lists of sequences without a mask.

        The engine computes all; the mean is left out unless ``outputs`` names it.
        """
        arrays = {
            name: _padded(value, self._length) if isinstance(value, list) else value for name, value in feeds.items()
        }
        if "attention_mask" not in arrays:
            lengths = np.array([len(row) for row in feeds["input_ids"]])
            arrays["attention_mask"] = (np.arange(arrays["input_ids"].shape[1]) < lengths[:, None]).astype(np.int64)
        found = self._engine.run({name: arrays[name] for name in self._names})
        if self._pooled and (outputs is None or "sentence_embedding" in outputs):
            mask = arrays["attention_mask"].astype(np.float32)
            means = np.matmul(mask[:, None], found["last_hidden_state"])[:, 0]  # of length 1 below, so sums do
            found["sentence_embedding"] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return found


def _padded(rows: Sequence[NDArray[np.int64]], length: int) -> NDArray[np.int64]:
    array = np.zeros((len(rows), max(length, *map(len, rows))), np.int64)
    for target, row in zip(array, rows, strict=True):
        target[: len(row)] = row
    return array
