"""Masked language models: which tokens fit a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcpu.errors import InputError
from fastcpu.tasks.engine import Model, Rows
from fastcpu.tasks.labels import softmax
from fastcpu.tasks.task import Task, Work
from fastcpu.tasks.tokenizer import Encoded, IntArray, Tokenizer, read_config

_USUAL = ("[MASK]", "<mask>")


@dataclass(frozen=True)
class Fill:
    """A token for a gap.

    Attributes:
        token: as the vocabulary writes it (``##ing`` goes on with a word).
        id: its number.
        score: its probability among all tokens.
    """

    token: str
    id: int
    score: float


class MaskFiller(Task[str, list[list[Fill]]]):
    """Finds, for every mask token in a text, the tokens that fit best, the best first.

    Args:
        top_k: how many tokens.

    Attributes:
        mask: what marks a gap in the texts.
    """

    name = "fill_mask"
    head = "ForMaskedLM"
    batch_tokens = 1024  # every token has a logit for the whole vocabulary

    def __init__(self, model: Model, threads: int | None = None, max_length: int | None = None, top_k: int = 5) -> None:
        super().__init__(model, threads, max_length)
        self._top_k = _checked_count(top_k)
        self._logits, channels = self._output("logits", "batch", "sequence")
        self._size = min(channels, self.tokenizer.size)
        self.mask, self._mask_id = self._mask(self.tokenizer)

    def _mask(self, tokenizer: Tokenizer) -> tuple[str, int]:
        """The mask token and its id: what the configuration names, or a usual one that the vocabulary has."""
        names = list(_USUAL)
        for file in ("special_tokens_map.json", "tokenizer_config.json"):
            given = read_config(self.engine.directory / file).get("mask_token")
            given = given.get("content") if isinstance(given, dict) else given
            if isinstance(given, str):
                names.insert(0, given)
        for name in names:
            index = tokenizer.id_of(name)
            if index is not None:
                return name, index
        raise InputError(f"task {self.name}: the tokenizer of {str(self.engine.directory)!r} has no mask token")

    def prepare(
        self,
        inputs: Sequence[str],
        first: int = 0,
        top_k: int | None = None,
        targets: Sequence[str] | None = None,
    ) -> Work[list[list[Fill]]]:
        """As `Task.prepare`.

        Args:
            inputs: texts.
            first: number of the first.
            top_k: how many tokens, by default what the object was made with.
            targets: tokens to choose from, by default the whole vocabulary. The scores are the same.
        """
        count = self._top_k if top_k is None else _checked_count(top_k)
        wanted = np.arange(self._size) if targets is None else self._ids(targets)
        encoded = self.tokenizer.encode(inputs, first)
        for number, each in enumerate(encoded, first):
            if self._mask_id not in each.ids:
                raise InputError(f"input {number} has no {self.mask} in its first {self.tokenizer.max_length} tokens")
        self._check_whole(inputs, encoded, first)
        results: list[list[list[Fill]]] = [[] for _ in encoded]

        def take(indices: Sequence[int], rows: tuple[Rows, ...]) -> None:
            for index, logits in zip(indices, rows[0], strict=True):
                gaps = np.flatnonzero(encoded[index].ids == self._mask_id)
                for scores in softmax(logits[gaps, : self._size]):
                    best = wanted[np.argsort(-scores[wanted], kind="stable")[:count]]
                    results[index].append([Fill(self.tokenizer.token(int(i)), int(i), float(scores[i])) for i in best])

        return Work(encoded, (self._logits,), take, lambda: results)

    def _ids(self, tokens: Sequence[str]) -> IntArray:
        """The ids of tokens, each once, in order; InputError names one that the model does not know."""
        found = []
        for token in tokens:
            index = self.tokenizer.id_of(token)
            if index is None or index >= self._size:
                raise InputError(f"targets: {token!r} is no token of the vocabulary")
            found.append(index)
        if not found:
            raise InputError("targets: no token")
        return np.array(sorted(set(found)), np.int64)

    def _check_whole(self, inputs: Sequence[str], encoded: Sequence[Encoded], first: int) -> None:
        """InputError names an input of which a mask token is cut off."""
        longest = self.tokenizer.max_length
        full = [index for index, each in enumerate(encoded) if len(each.ids) == longest]
        for index, cut in zip(full, self.tokenizer.cut_off([inputs[index] for index in full]), strict=True):
            if self._mask_id in cut:
                raise InputError(f"input {first + index} has a {self.mask} after its first {longest} tokens")


def _checked_count(top_k: int) -> int:
    if top_k < 1:
        raise InputError(f"top_k must be at least 1, not {top_k}")
    return top_k
