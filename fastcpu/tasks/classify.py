"""Sequence classification: a label for each text or pair of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastcpu.tasks.engine import FloatArray, Model, Rows
from fastcpu.tasks.labels import label_names, problem_type, sigmoid, softmax
from fastcpu.tasks.task import Task, Work
from fastcpu.tasks.tokenizer import Text


@dataclass(frozen=True)
class Classification:
    """What a classifier says of one text.

    Attributes:
        label: the label with the highest score.
        score: its score.
        scores: of every label, in the order of `Classifier.labels`: probabilities that add up to 1, a probability each
            where several labels may hold, or the values that a regression predicts.
        logits: what the model gives.
    """

    label: str
    score: float
    scores: tuple[float, ...]
    logits: tuple[float, ...]


class Classifier(Task[Text, Classification]):
    """Classifies texts, or pairs ``(text, text)``.

    Args:
        labels: their names in the model's order; by default those that config.json has.

    Attributes:
        labels: their names.
        problem: what the scores mean, as problem_type of config.json.
    """

    name = "classify"
    head = "ForSequenceClassification"

    def __init__(
        self,
        model: Model,
        threads: int | None = None,
        max_length: int | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__(model, threads, max_length)
        self._logits, channels = self._output("logits", "batch")
        self.labels = label_names(self.engine.directory, channels, labels)
        self.problem = problem_type(self.engine.directory, channels)

    def prepare(self, inputs: Sequence[Text], first: int = 0) -> Work[Classification]:
        logits = np.empty((len(inputs), len(self.labels)), np.float32)

        def take(indices: Sequence[int], rows: tuple[Rows, ...]) -> None:
            logits[indices] = rows[0]

        return Work(self.tokenizer.encode(inputs, first), (self._logits,), take, lambda: self._classifications(logits))

    def _classifications(self, logits: FloatArray) -> list[Classification]:
        """Of `logits` [inputs, labels]."""
        if self.problem == "regression":
            scores = logits.astype(np.float64)
        else:
            scores = (softmax if self.problem == "single_label_classification" else sigmoid)(logits)
        return [
            Classification(self.labels[best], float(row[best]), tuple(row.tolist()), tuple(values.tolist()))
            for row, values, best in zip(scores, logits, logits.argmax(axis=1), strict=True)
        ]
