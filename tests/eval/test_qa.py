"""SQuAD: data of every form, and the official metric."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fastcpu import InputError
from fastcpu.eval import qa
from fastcpu.tasks.qa import Answer

PASSAGE = "The Denver Broncos won in Santa Clara, California."
QUESTIONS = [
    {"id": "q1", "question": "Who won?", "answers": [{"text": "Denver Broncos", "answer_start": 4}] * 2},
    {"id": "q2", "question": "Where?", "answers": [{"text": "Santa Clara, California", "answer_start": 26}]},
    {"id": "q3", "question": "Why?", "answers": [], "is_impossible": True},
]
OFFICIAL = {"version": "2.0", "data": [{"title": "t", "paragraphs": [{"context": PASSAGE, "qas": QUESTIONS}]}]}
ROWS: list[dict[str, Any]] = [
    {
        "id": each["id"],
        "question": each["question"],
        "context": PASSAGE,
        "answers": {"text": [answer["text"] for answer in each["answers"]], "answer_start": []},  # type: ignore[index, misc]
    }
    for each in QUESTIONS
]


class Fixed:
    def __init__(self, *answers: str) -> None:
        self._answers = answers

    def __call__(self, inputs: Sequence[tuple[str, str]]) -> list[Answer]:
        assert len(inputs) == len(self._answers)
        return [Answer(text, 1.0, 0.0, 0, 0) for text in self._answers]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Denver Broncos!", "denver broncos"),
        ("a an the", ""),
        ("Santa-Clara, another theatre", "santaclara another theatre"),
        ("$24.10\u2013the", "2410\u2013"),
        ("", ""),
    ],
)
def test_normalization(text: str, expected: str) -> None:
    assert qa.normalized(text) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "f1", "exact"),
    [
        ("the Denver Broncos", "Denver Broncos", 1.0, 1.0),
        ("Denver", "Denver Broncos", 2 / 3, 0.0),
        ("big big big cat", "big big dog", 2 * 2 / 7, 0.0),
        ("Paris", "London", 0.0, 0.0),
        ("the", "a", 0.0, 1.0),
    ],
)
def test_scores_of_one_answer(answer: str, gold: str, f1: float, exact: float) -> None:
    assert qa.f1(answer, gold) == pytest.approx(f1)
    assert qa.exact_match(answer, gold) == exact


@pytest.mark.parametrize("form", ["official", "json", "jsonl"])
def test_forms_of_the_data(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"dev.{'jsonl' if form == 'jsonl' else 'json'}"
    text = {
        "official": json.dumps(OFFICIAL),
        "json": json.dumps(ROWS),
        "jsonl": "\n".join(map(json.dumps, ROWS)),
    }[form]
    path.write_text(text)
    data = qa.load(tmp_path, "dev")
    assert data.inputs == [("Who won?", PASSAGE), ("Where?", PASSAGE), ("Why?", PASSAGE)]
    assert [set(answers) for answers in data.answers] == [{"Denver Broncos"}, {"Santa Clara, California"}, set()]
    assert qa.inputs(data) == data.inputs


def test_answers_may_be_plain_texts(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(f'q,p,a\nWho?,"{PASSAGE}",Broncos\n')
    data = qa.load(tmp_path, "test", {"question": "q", "context": "p", "answers": "a"})
    assert data.answers == [("Broncos",)]


def test_the_best_gold_answer_counts(tmp_path: Path) -> None:
    data = qa.QaData([("q", "p")] * 3, [("Denver Broncos", "the Broncos"), ("Santa Clara",), ()], ["1", "2", "3"])
    result = qa.evaluate(Fixed("Broncos", "Santa Clara California", ""), data)
    assert result.samples["exact_match"].tolist() == [1.0, 0.0, 1.0]
    assert result.samples["f1"].tolist() == pytest.approx([1.0, 0.8, 1.0])
    assert (result.metric, result.examples) == ("f1", 3)
    assert qa.evaluate(Fixed("Broncos", "x", "something"), data).samples["f1"].tolist() == [1.0, 0.0, 0.0]
    worse = qa.evaluate(Fixed("", "", ""), data)
    assert qa.compare(worse, result)["f1"].value == pytest.approx(-1.8 / 3)


@pytest.mark.parametrize(("answer", "expected"), [("", 1.0), ("the", 1.0), ("Denver", 0.0)])
def test_empty_gold_answers_are_none(answer: str, expected: float) -> None:
    result = qa.evaluate(Fixed(answer), qa.QaData([("q", "p")], [("", "the")], ["1"]))
    assert result.samples["f1"].tolist() == result.samples["exact_match"].tolist() == [expected]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "holds no rows"),
        ('{"data": []}', "holds no questions"),
        ('{"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "q"}]}]}]}', "not as SQuAD is written: KeyError"),
        ('{"data": 3}', "not as SQuAD is written"),
        (
            '{"data": [{"paragraphs": [{"context": 3, "qas": [{"id": "q", "question": "x", "answers": []}]}]}]}',
            "question q: the question, the context and the answers must be texts",
        ),
        ('[{"question": "q", "context": "c"}]', "object 1: no column 'answers' or 'answer' for answers"),
        ('[{"question": "q", "context": "c", "answers": 3}]', "object 1: column 'answers' is 3: neither a text"),
        ('[{"question": "q", "context": "c", "answers": [3]}]', "object 1: column 'answers' is .3.: neither a text"),
    ],
)
def test_broken_data(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(content)
    with pytest.raises(InputError, match=rf"test.json: {message}"):
        qa.load(tmp_path / "test.json", "test")


@pytest.mark.parametrize(
    ("predictions", "exact", "f1"),
    [("ref_pred_BERT_ensemble.json", 86.21, 92.20), ("ref_pred_logreg.json", 40.14, 50.98)],
)
def test_reference_predictions(predictions: str, exact: float, f1: float, data_dir: Path) -> None:
    """The figures that the official script gives for two files of predictions; what one lacks counts as wrong."""
    data = qa.load(data_dir / "squad_v1.1_dev" / "dev-v1.1.json", "dev")
    assert len(data.inputs) == 10_570
    answers = json.loads((data_dir / "squad_v1.1_dev" / predictions).read_text())
    result = qa.evaluate_answers([answers.get(key, "") for key in data.keys], data)
    assert 100 * result.values["exact_match"].value == pytest.approx(exact, abs=0.005)
    assert 100 * result.values["f1"].value == pytest.approx(f1, abs=0.005)


def test_real_rows(data_dir: Path) -> None:
    data = qa.load(data_dir / "squad_v1.1_train_val4k" / "train_val4k.hf.json", "train")
    assert len(data.inputs) == 4253
    pairs = zip(data.inputs, data.answers, strict=True)
    assert all(any(answer in passage for answer in answers) for (_, passage), answers in pairs)
