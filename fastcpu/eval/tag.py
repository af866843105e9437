"""Token classification: F1 of whole entities, as conlleval and seqeval count them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastcpu.data.splits import data_files
from fastcpu.errors import InputError
from fastcpu.eval.bootstrap import FloatArray, Interval, Statistic, difference_interval, statistic_interval
from fastcpu.eval.data import Column, Table, data_folder, read_lines, read_table, shown
from fastcpu.eval.engine import Evaluation
from fastcpu.eval.labels import LabelMap
from fastcpu.eval.metrics import IntArray
from fastcpu.tasks.labels import spans
from fastcpu.tasks.tag import Tagger, Tagging
from fastcpu.tasks.tokenizer import Text

MODEL = Tagger
MAX_LENGTH = 128
OPTIONS = ("labels", "stride")
COLUMNS = {
    "tokens": Column(("tokens", "words")),
    "tags": Column(("tags", "ner_tags", "labels")),
}

_CONLL = (".txt", ".conll", ".bio", ".iob")
_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class TagData:
    """Sentences of labelled words.

    Attributes:
        sentences: their words.
        gold: a label per word, a name or a number as the data set has it.
        places: where each label is written, for errors.
        classes: what the numbers stand for, where the data set says so.
    """

    sentences: list[list[str]]
    gold: list[list[Any]]
    places: list[list[str]] = field(repr=False)
    classes: tuple[str, ...] = ()


class TagModel(Protocol):
    """What is evaluated: `Tagger`, or anything like it."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    def __call__(self, inputs: Sequence[Sequence[str]]) -> list[Tagging]: ...


# ---- data ----


def files(path: Path | None, split: str) -> Sequence[Path]:
    """The files of a split."""
    from fastcpu.data.rows import SUFFIXES

    return data_files(data_folder(path, None), split, (*SUFFIXES, *_CONLL))


def load(path: Path | None, split: str, columns: Mapping[str, str] | None = None) -> TagData:
    """Reads CoNLL files, or rows with words and their tags.

    A CoNLL file (.txt, .conll, .bio, .iob) has a word per line, whose first and last column (between spaces or tabs)
    are the word and its label, and an empty line after every sentence. In rows, words and tags are lists, or texts that
    are split at spaces.
    """
    found = files(path, split)
    if found[0].suffix in _CONLL and not columns:
        return _conll(found)
    table = read_table(found, COLUMNS, columns or {})
    data = TagData([], [], [], table.classes.get("tags", ()))
    for row in table.rows:
        words, tags = _list(table, row, "tokens"), _list(table, row, "tags")
        if len(words) != len(tags):
            raise table.error(row, "tags", f"has {len(tags)} labels for {len(words)} words")
        if not all(isinstance(word, str) for word in words):
            raise table.error(row, "tokens", "has words that are no texts")
        data.sentences.append(words)
        data.gold.append(tags)
        column = f"{row.place}: column {table.columns['tags']!r}"
        data.places.append([f"{column}, word {number}," for number in range(1, len(tags) + 1)])
    return data


def _list(table: Table, row: Any, role: str) -> list[Any]:
    value = table.cell(row, role)
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list) or not value:
        raise table.error(row, role, f"is {shown(value)} and not a list")
    return value


def _conll(files: Sequence[Path]) -> TagData:
    data = TagData([], [], [])
    for path in files:
        _add_conll(path, data)
    if not data.sentences:
        raise InputError(f"{files[0]}: holds no sentences")
    return data


def _add_conll(path: Path, data: TagData) -> None:
    previous = -1  # the line before the first is not of the same sentence
    for number, line in read_lines(path):
        cells = line.split()
        if cells[0] == _DOCUMENT:
            continue
        if len(cells) < 2:
            raise InputError(f"{path}:{number}: a word without a label")
        if number != previous + 1:
            data.sentences.append([])
            data.gold.append([])
            data.places.append([])
        previous = number
        data.sentences[-1].append(cells[0])
        data.gold[-1].append(cells[-1])
        data.places[-1].append(f"{path}:{number}: the label")


def inputs(data: TagData) -> list[Text]:
    """The sentences, their words joined by spaces."""
    return [" ".join(words) for words in data.sentences]


# ---- metrics ----

_METRICS: dict[str, Callable[[IntArray], FloatArray]] = {
    "f1": lambda sums: _ratio(2 * sums[0], sums[1] + sums[2]),
    "precision": lambda sums: _ratio(sums[0], sums[1]),
    "recall": lambda sums: _ratio(sums[0], sums[2]),
    "accuracy": lambda sums: _ratio(sums[3], sums[4]),
}
METRICS = tuple(_METRICS)
"""Of the sums of `_counts`, [5, ...], by name. Entities of all types count alike; accuracy is that of words."""


def _ratio(part: IntArray, whole: IntArray) -> FloatArray:
    """0 where there is nothing to divide by."""
    return part / np.maximum(whole, 1)


def _counts(gold: Sequence[str], predicted: Sequence[str]) -> list[int]:
    """Entities that are right, predicted and gold; words that are right, and all words."""
    theirs, mine = set(spans(gold)), set(spans(predicted))
    right = sum(a == b for a, b in zip(gold, predicted, strict=True))
    return [len(theirs & mine), len(mine), len(theirs), right, len(gold)]


def evaluate(model: TagModel, data: TagData) -> Evaluation:
    """Labels every sentence once. InputError names a label that the model does not know."""
    numbers = LabelMap(model.labels, data.classes)
    gold = [
        [model.labels[numbers.number(*each)] for each in zip(labels, places, strict=True)]
        for labels, places in zip(data.gold, data.places, strict=True)
    ]
    predicted = [[word.label for word in tagging.words] for tagging in model(data.sentences)]
    counts = np.array([_counts(*each) for each in zip(gold, predicted, strict=True)], np.int64)
    samples = {"counts": counts}
    values = {name: statistic_interval(_statistic(name, samples), len(gold)) for name in _METRICS}
    return Evaluation("f1", len(gold), values, samples)


def compare(a: Evaluation, b: Evaluation) -> Mapping[str, Interval]:
    """The metrics of `a` minus those of `b`, with the same sentences drawn for both."""
    return {
        name: difference_interval(_statistic(name, a.samples), _statistic(name, b.samples), a.examples)
        for name in _METRICS
    }


def _statistic(name: str, samples: Mapping[str, IntArray]) -> Statistic:
    """A metric of samples of the sentences."""
    return lambda rows: _METRICS[name](np.moveaxis(samples["counts"][rows].sum(axis=-2), -1, 0))
