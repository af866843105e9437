"""Sequence classification: accuracy, F1 and Matthews' correlation; correlations where a model predicts a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastcpu.data.splits import data_files
from fastcpu.errors import InputError
from fastcpu.eval import regression
from fastcpu.eval.bootstrap import FloatArray, Interval, Statistic, difference_interval, statistic_interval
from fastcpu.eval.data import Column, data_folder, read_table
from fastcpu.eval.engine import Evaluation
from fastcpu.eval.labels import LabelMap
from fastcpu.eval.metrics import IntArray, accuracy, confusion, f1_scores, macro_f1, matthews
from fastcpu.tasks.classify import Classification, Classifier
from fastcpu.tasks.tokenizer import Text

MODEL = Classifier
MAX_LENGTH = 128
OPTIONS = ("labels",)
COLUMNS = {
    "sentence1": Column(("sentence1", "sentence", "text")),
    "sentence2": Column(("sentence2",), required=False),
    "label": Column(("label",)),
}

_CELLS = 1 << 20  # of confusion counts at once; bounds memory where there are many labels

_METRICS: dict[str, Callable[[IntArray], FloatArray]] = {
    "accuracy": accuracy,
    "f1": lambda counts: np.nan_to_num(f1_scores(counts)[..., 1]),
    "macro_f1": macro_f1,
    "matthews": matthews,
}
"""Of the confusion counts, by name; ``f1`` is that of the second of two labels, as in GLUE."""
METRICS = (*_METRICS, *regression.METRICS)


@dataclass(frozen=True)
class ClassifyData:
    """Labelled texts.

    Attributes:
        inputs: texts, or pairs of texts.
        gold: a label each, a name or a number as the data set has it.
        places: where each label is written, for errors.
        classes: what the numbers stand for, where the data set says so.
    """

    inputs: list[Text]
    gold: list[Any]
    places: list[str] = field(repr=False)
    classes: tuple[str, ...] = ()


class ClassifyModel(Protocol):
    """What is evaluated: `Classifier`, or anything like it."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def problem(self) -> str: ...

    def __call__(self, inputs: Sequence[Text]) -> list[Classification]: ...


def files(path: Path | None, split: str) -> Sequence[Path]:
    """The files of a split."""
    return data_files(data_folder(path, None), split)


def load(path: Path | None, split: str, columns: Mapping[str, str] | None = None) -> ClassifyData:
    """Reads texts with labels; a column `sentence2` makes pairs."""
    table = read_table(files(path, split), COLUMNS, columns or {})
    inputs: list[Text] = []
    for row in table.rows:
        text = table.text(row, "sentence1")
        inputs.append((text, table.text(row, "sentence2")) if "sentence2" in table.columns else text)
    gold = [table.cell(row, "label") for row in table.rows]
    return ClassifyData(inputs, gold, table.places("label"), table.classes.get("label", ()))


def inputs(data: ClassifyData) -> list[Text]:
    """All texts or pairs."""
    return list(data.inputs)


def evaluate(model: ClassifyModel, data: ClassifyData) -> Evaluation:
    """Classifies every text once. InputError names a label that the model does not know.

    A model with one output predicts a number, whatever it stands for.
    """
    if len(model.labels) == 1:
        numbers = regression.gold_numbers(data.gold, data.places)
        return regression.evaluation(np.array([each.logits[0] for each in model(data.inputs)]), numbers)
    if model.problem != "single_label_classification":
        raise InputError(
            f"the model is made for {model.problem} of {len(model.labels)} labels; what is measured is "
            "single_label_classification, and regression to one number"
        )
    known = LabelMap(model.labels, data.classes)
    gold = np.array([known.number(*each) for each in zip(data.gold, data.places, strict=True)], np.int64)
    predicted = np.array([np.argmax(each.logits) for each in model(data.inputs)], np.int64)
    samples = {"gold": gold, "predicted": predicted, "labels": np.array(len(model.labels))}
    values = {name: statistic_interval(_statistic(name, samples), len(gold)) for name in _names(len(model.labels))}
    return Evaluation("accuracy", len(gold), values, samples)


def compare(a: Evaluation, b: Evaluation) -> Mapping[str, Interval]:
    """The metrics of `a` minus those of `b`, with the same texts drawn for both."""
    if {"spearman"} <= a.values.keys() & b.values.keys():
        return regression.compare(a, b)
    return {
        name: difference_interval(_statistic(name, a.samples), _statistic(name, b.samples), a.examples)
        for name in a.values
        if name in b.values
    }


def _names(labels: int) -> list[str]:
    return [name for name in _METRICS if name != "f1" or labels == 2]


def _statistic(name: str, samples: Mapping[str, IntArray]) -> Statistic:
    """A metric of samples of the examples."""
    gold, predicted, labels = samples["gold"], samples["predicted"], int(samples["labels"])
    step = max(1, _CELLS // labels**2)

    def statistic(rows: IntArray) -> FloatArray:
        parts = [rows[i : i + step] for i in range(0, len(rows), step)] if rows.ndim > 1 else [rows]
        counted = [_METRICS[name](confusion(gold[part], predicted[part], labels)) for part in parts]
        return np.concatenate(counted) if rows.ndim > 1 else counted[0]

    return statistic
