"""Question answering: exact match and F1 of SQuAD, version 1.1 (Rajpurkar et al., 2016) and 2.0 (2018)."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastcpu.data.splits import data_files
from fastcpu.errors import InputError
from fastcpu.eval.bootstrap import Interval, mean_interval
from fastcpu.eval.data import Column, Table, data_folder, read_table, shown
from fastcpu.eval.engine import Evaluation
from fastcpu.files import check_regular
from fastcpu.tasks.qa import MAX_LENGTH as WINDOW
from fastcpu.tasks.qa import Answer, QuestionAnswerer
from fastcpu.tasks.tokenizer import Text

MODEL = QuestionAnswerer
MAX_LENGTH = WINDOW
OPTIONS = ("stride", "max_answer", "no_answer")
COLUMNS = {
    "question": Column(("question",)),
    "context": Column(("context",)),
    "answers": Column(("answers", "answer")),
}
METRICS = ("f1", "exact_match")

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class QaData:
    """Questions about passages.

    Attributes:
        inputs: (question, passage).
        answers: per question, the texts that count as right; none if the passage has no answer.
        keys: an id per question, where the data set has them.
        starts: per question, what the data says of where in its passage each answer begins: unchecked, since only
            training reads it. Empty where nobody does.
    """

    inputs: list[tuple[str, str]]
    answers: list[tuple[str, ...]]
    keys: list[str]
    starts: list[Any] = field(default_factory=list)


class QaModel(Protocol):
    """What is evaluated: `QuestionAnswerer`, or anything like it."""

    def __call__(self, inputs: Sequence[tuple[str, str]]) -> list[Answer]: ...


# ---- data ----


def files(path: Path | None, split: str) -> Sequence[Path]:
    """The files of a split."""
    return data_files(data_folder(path, None), split)


def load(path: Path | None, split: str, columns: Mapping[str, str] | None = None) -> QaData:
    """Reads a file of SQuAD ({"data": [articles]}), or rows with a question, a context and answers.

    The answers of a row are a text, a list of texts, or an object with a list "text" as `datasets` has it.
    """
    found = files(path, split)
    squad = official(found[0]) if len(found) == 1 and found[0].suffix == ".json" and not columns else None
    if squad is not None:
        return squad
    table = read_table(found, COLUMNS, columns or {})
    inputs = [(table.text(row, "question"), table.text(row, "context")) for row in table.rows]
    given = [answers_of(table, row) for row in table.rows]
    return QaData(inputs, [texts for texts, _ in given], [row.place for row in table.rows], [each for _, each in given])


def answers_of(table: Table, row: Any) -> tuple[tuple[str, ...], Any]:
    """The answers of a row, and what it says of where they begin; InputError if the cell holds no answers."""
    given = table.cell(row, "answers")
    answers, starts = (given.get("text"), given.get("answer_start")) if isinstance(given, dict) else (given, None)
    if isinstance(answers, str):
        answers, starts = [answers], starts if starts is None else [starts]
    if isinstance(answers, list) and all(isinstance(answer, str) for answer in answers):
        return tuple(answers), starts
    raise table.error(row, "answers", f"is {shown(given)}: neither a text, nor a list of texts, nor an object with one")


def official(path: Path) -> QaData | None:
    """The contents of a file of SQuAD; None if it is a list, which `read_table` reads.

    Raises:
        InputError: the file cannot be read, or is neither.
    """
    check_regular(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        return None
    try:
        rows = list(_questions(content))
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not as SQuAD is written: {type(error).__name__}: {error}") from error
    for key, question, context, answers, _ in rows:
        if not all(isinstance(text, str) for text in (question, context, *answers)):
            raise InputError(f"{path}: question {key}: the question, the context and the answers must be texts")
    if not rows:
        raise InputError(f"{path}: holds no questions")
    inputs = [(question, context) for _, question, context, *_ in rows]
    return QaData(inputs, [row[3] for row in rows], [row[0] for row in rows], [row[4] for row in rows])


_Question = tuple[str, str, str, tuple[str, ...], Any]
"""Key, question, passage, answers, and where they begin."""


def _questions(content: Mapping[str, Any]) -> Iterator[_Question]:
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                given = [] if entry.get("is_impossible") else entry["answers"]
                answers = tuple(each["text"] for each in given)
                starts = [each.get("answer_start") for each in given]
                yield str(entry["id"]), entry["question"], paragraph["context"], answers, starts


def inputs(data: QaData) -> list[Text]:
    """The questions with their passages."""
    return list(data.inputs)


# ---- metrics ----


def normalized(text: str) -> str:
    """A text as SQuAD compares it: lower case, without punctuation, without articles, with single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, gold: str) -> float:
    """1 if the normalized texts are equal, else 0."""
    return float(normalized(answer) == normalized(gold))


def f1(answer: str, gold: str) -> float:
    """F1 of the normalized words that two texts share, repeated words counted; 0 if they share none."""
    mine, theirs = normalized(answer).split(), normalized(gold).split()
    common = (Counter(mine) & Counter(theirs)).total()
    return 2 * common / (len(mine) + len(theirs)) if common else 0.0


def evaluate(model: QaModel, data: QaData) -> Evaluation:
    """Answers every question once."""
    return evaluate_answers([answer.text for answer in model(data.inputs)], data)


def evaluate_answers(answers: Sequence[str], data: QaData) -> Evaluation:
    """The metrics of any answers, one per question: the best over the gold answers, averaged over the questions.

    Where the passage has no answer, the empty text is the right one, and nothing else counts. Gold answers of which
    `normalized` leaves nothing are none, as in the script of SQuAD 2.0.
    """
    samples = {name: np.zeros(len(answers)) for name in METRICS}
    for index, (answer, gold) in enumerate(zip(answers, data.answers, strict=True)):
        right = [each for each in gold if normalized(each)]
        if right:
            samples["f1"][index] = max(f1(answer, each) for each in right)
            samples["exact_match"][index] = max(exact_match(answer, each) for each in right)
        else:
            for name in METRICS:
                samples[name][index] = float(not normalized(answer))
    return Evaluation("f1", len(answers), {name: mean_interval(values) for name, values in samples.items()}, samples)


def compare(a: Evaluation, b: Evaluation) -> Mapping[str, Interval]:
    """The mean difference of `a` and `b` per question."""
    return {name: mean_interval(a.samples[name] - b.samples[name]) for name in METRICS}
