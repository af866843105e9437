"""Semantic textual similarity: Spearman's correlation of the cosine with the gold score, as in STS-B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastcpu.data.splits import data_files
from fastcpu.errors import InputError
from fastcpu.eval.bootstrap import Interval, Statistic, difference_interval, statistic_interval
from fastcpu.eval.data import Column, data_folder, read_lines, read_table
from fastcpu.eval.engine import EmbeddingEngine, Evaluation
from fastcpu.eval.metrics import spearman
from fastcpu.tasks.embed import Embedder
from fastcpu.tasks.tokenizer import Text

MODEL = Embedder
MAX_LENGTH = 128
METRICS = ("spearman",)
OPTIONS = ()
COLUMNS = {
    "sentence1": Column(("sentence1",)),
    "sentence2": Column(("sentence2",)),
    "label": Column(("label", "score")),
}

_COLUMNS = 7  # genre, file, year, id, score, sentence 1, sentence 2; further columns name the source


@dataclass(frozen=True)
class StsData:
    """Pairs of sentences with their gold similarity."""

    first: list[str]
    second: list[str]
    gold: list[float]


def files(path: Path | None, split: str) -> Sequence[Path]:
    """The files of a split."""
    return data_files(data_folder(path, "stsb"), split)


def load(path: Path | None, split: str, columns: Mapping[str, str] | None = None) -> StsData:
    """Reads a file of the STS benchmark, or rows with two sentences and a label, which is their similarity.

    The benchmark's are named .csv and are separated by tabs, without quotes and without a header.
    """
    found = files(path, split)
    if not columns and found[0].suffix == ".csv" and "\t" in next(read_lines(found[0]), (0, ""))[1]:
        return _benchmark(found[0])
    table = read_table(found, COLUMNS, columns or {})
    rows = [
        (table.text(row, "sentence1"), table.text(row, "sentence2"), table.number(row, "label")) for row in table.rows
    ]
    return _checked(StsData(*(list(column) for column in zip(*rows, strict=True))), found[0])


def _benchmark(path: Path) -> StsData:
    data = StsData([], [], [])
    for number, line in read_lines(path):
        cells = line.split("\t")
        if len(cells) < _COLUMNS:
            raise InputError(
                f"{path}:{number}: {len(cells)} tab-separated columns instead of at least {_COLUMNS} (score in the 5th)"
            )
        try:
            score = float(cells[4])
        except ValueError:
            score = float("nan")
        if not isfinite(score):
            raise InputError(f"{path}:{number}: the 5th column, the gold score, is {cells[4]!r} and not a number")
        data.gold.append(score)
        data.first.append(cells[5].strip())
        data.second.append(cells[6].strip())
    return _checked(data, path)


def _checked(data: StsData, path: Path) -> StsData:
    if len(data.gold) < 2:
        raise InputError(f"{path}: at least two pairs are needed")
    if min(data.gold) == max(data.gold):
        raise InputError(
            f"{path}: all {len(data.gold)} pairs have the score {data.gold[0]:g}: a correlation is not defined"
        )
    return data


def inputs(data: StsData) -> list[Text]:
    """All sentences."""
    return [*data.first, *data.second]


def evaluate(engine: EmbeddingEngine, data: StsData) -> Evaluation:
    """Embeds every distinct sentence once; the metric is Spearman's correlation.

    InputError where it is not defined, since all pairs have the same cosine.
    """
    sentences = sorted({*data.first, *data.second})
    place = {sentence: index for index, sentence in enumerate(sentences)}
    vectors = engine.embed(sentences).astype(np.float64)
    first, second = (vectors[[place[text] for text in side]] for side in (data.first, data.second))
    cosine, gold = (first * second).sum(axis=1), np.array(data.gold)
    if cosine.min() == cosine.max():
        raise InputError(
            f"the model gives all {len(gold)} pairs the cosine {cosine[0]:.6g}: a correlation is not defined"
        )
    samples = {"cosine": cosine, "gold": gold}
    return Evaluation("spearman", len(gold), {"spearman": statistic_interval(_statistic(samples), len(gold))}, samples)


def compare(a: Evaluation, b: Evaluation) -> Mapping[str, Interval]:
    """The correlation of `a` minus that of `b`, with the same pairs drawn for both."""
    return {"spearman": difference_interval(_statistic(a.samples), _statistic(b.samples), a.examples)}


def _statistic(samples: Mapping[str, npt.NDArray[np.float64]]) -> Statistic:
    return lambda rows: spearman(samples["cosine"][rows], samples["gold"][rows])
