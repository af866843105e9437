"""Cross-encoders: how well a passage answers a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError
from fastcpu.tasks.engine import FloatArray, Model, Rows
from fastcpu.tasks.task import Task, Work, in_groups


@dataclass(frozen=True)
class Ranked:
    """One passage.

    Attributes:
        index: its number in the list that was given.
        score: higher is better; see `Reranker.scores`.
    """

    index: int
    score: float


class Reranker(Task[tuple[str, Sequence[str]], list[Ranked]]):
    """Sorts the passages of inputs ``(query, passages)``, the best first; equally good ones keep their order."""

    name = "rerank"
    head = "ForSequenceClassification"

    def __init__(self, model: Model, threads: int | None = None, max_length: int | None = None) -> None:
        super().__init__(model, threads, max_length)
        self._logits, self._channels = self._output("logits", "batch")
        if self._channels > 2:
            raise self._refusal("logits [batch, 1] or [batch, 2]")

    def scores(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        """[pairs] of (query, passage): the logit of relevance. Of two labels, the second one's logit minus the first's.

        No sigmoid is taken: it would make high scores equal.
        """
        return np.array(in_groups(lambda group, first: self.run(self.prepare_scores(group, first)), pairs), np.float32)

    def prepare_scores(self, pairs: Sequence[tuple[str, str]], first: int = 0) -> Work[float]:
        """The work of `scores`."""
        scores = np.empty(len(pairs), np.float32)

        def take(indices: Sequence[int], rows: tuple[Rows, ...]) -> None:
            logits = np.asarray(rows[0])
            scores[indices] = logits[:, 0] if self._channels == 1 else logits[:, 1] - logits[:, 0]

        return Work(self.tokenizer.encode(pairs, first), (self._logits,), take, scores.tolist)

    def prepare(self, inputs: Sequence[tuple[str, Sequence[str]]], first: int = 0) -> Work[list[Ranked]]:
        pairs = [pair for number, each in enumerate(inputs, first) for pair in _pairs(each, number)]
        scoring = self.prepare_scores(pairs)
        return Work(
            scoring.sequences, scoring.outputs, scoring.take, lambda: _ranked(inputs, np.array(scoring.results()))
        )


def _ranked(inputs: Sequence[tuple[str, Sequence[str]]], scores: npt.NDArray[np.float64]) -> list[list[Ranked]]:
    """The passages of every input, of which `scores` has those of all, one after the other."""
    results = []
    start = 0
    for _, passages in inputs:
        own = scores[start : start + len(passages)]
        start += len(passages)
        results.append([Ranked(int(index), float(own[index])) for index in np.argsort(-own, kind="stable")])
    return results


def _pairs(given: Any, number: int) -> list[tuple[str, str]]:
    """An input's query with each of its passages; InputError if it is not of that form."""
    if not isinstance(given, tuple) or len(given) != 2 or isinstance(given[1], str):
        raise InputError(f"input {number} is no pair of a query and a list of passages")
    query, passages = given
    if not all(isinstance(text, str) for text in (query, *passages)):
        raise InputError(f"input {number}: the query and the passages must be strings")
    return [(query, passage) for passage in passages]
