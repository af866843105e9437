"""Tagging: data of every form, and F1 of whole entities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fastcpu import InputError
from fastcpu.eval import tag
from fastcpu.tasks.tag import Tagging, Word

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
CONLL = """-DOCSTART- -X- O O

Anna NNP B-NP B-PER
Paul NNP I-NP I-PER
lives VB B-VP O

in IN B-PP O
London NNP B-NP B-LOC
"""
SENTENCES = [["Anna", "Paul", "lives"], ["in", "London"]]
GOLD = [["B-PER", "I-PER", "O"], ["O", "B-LOC"]]


class Fixed:
    labels = LABELS

    def __init__(self, *labels: str) -> None:
        self._labels = labels

    def __call__(self, inputs: Sequence[Sequence[str]]) -> list[Tagging]:
        return [
            Tagging(tuple(Word(word, label, 1.0, 0, 0) for word, label in zip(words, labels.split(), strict=True)), ())
            for words, labels in zip(inputs, self._labels, strict=True)
        ]


def test_conll_files(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text(CONLL)
    data = tag.load(tmp_path, "test")
    assert (data.sentences, data.gold) == (SENTENCES, GOLD)
    assert data.places[1][1] == f"{tmp_path}/test.txt:8: the label"
    assert tag.inputs(data) == ["Anna Paul lives", "in London"]


def test_every_shard_of_conll_files_is_read(tmp_path: Path) -> None:
    first, second = (tmp_path / f"test-0000{number}-of-00002.conll" for number in (0, 1))
    first.write_text("Anna B-PER")
    second.write_text("\nPaul B-PER\n")
    data = tag.load(tmp_path, "test")
    assert data.sentences == [["Anna"], ["Paul"]]
    assert data.places[1] == [f"{second}:2: the label"]


@pytest.mark.parametrize("form", ["lists", "texts"])
def test_rows(form: str, tmp_path: Path) -> None:
    if form == "lists":
        rows = [{"tokens": words, "ner_tags": labels} for words, labels in zip(SENTENCES, GOLD, strict=True)]
        (tmp_path / "test.json").write_text(json.dumps(rows))
    else:
        lines = [f"{' '.join(words)},{' '.join(labels)}" for words, labels in zip(SENTENCES, GOLD, strict=True)]
        (tmp_path / "test.csv").write_text("\n".join(["words,labels", *lines]))
    data = tag.load(tmp_path, "test")
    assert (data.sentences, data.gold) == (SENTENCES, GOLD)


def test_entities_count_whole(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text(CONLL)
    data = tag.load(tmp_path, "test")
    perfect = tag.evaluate(Fixed("I-PER I-PER O", "O I-LOC"), data)
    values = {name: interval.value for name, interval in perfect.values.items()}
    assert values == {"f1": 1.0, "precision": 1.0, "recall": 1.0, "accuracy": 3 / 5}
    assert perfect.examples == 2
    # One of three found entities is one of the two gold ones: half of a person is none.
    partly = tag.evaluate(Fixed("B-PER O B-LOC", "O B-LOC"), data)
    values = {name: interval.value for name, interval in partly.values.items()}
    assert values == pytest.approx({"f1": 2 / 5, "precision": 1 / 3, "recall": 1 / 2, "accuracy": 3 / 5})
    assert tag.compare(partly, perfect)["f1"].value == pytest.approx(-0.6)
    nothing = tag.evaluate(Fixed("O O O", "O O"), data)
    assert nothing.values["f1"].value == nothing.values["precision"].value == 0.0


def test_numbers_stand_for_labels_of_the_data_set_or_the_model() -> None:
    names = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    numbers = [[3, 4, 0], [0, 1]]
    places = [["a"] * 3, ["b"] * 2]
    data = tag.TagData(SENTENCES, numbers, places, names)  # type: ignore[arg-type]
    assert tag.evaluate(Fixed("B-PER I-PER O", "O B-LOC"), data).values["accuracy"].value == 1.0
    plain = tag.TagData(SENTENCES, [[1, 2, 0], [0, 3]], places)
    assert tag.evaluate(Fixed("B-PER I-PER O", "O B-LOC"), plain).values["accuracy"].value == 1.0


def test_labels_that_the_model_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text(CONLL.replace("B-LOC", "B-CITY"))
    with pytest.raises(InputError, match=r"test.txt:8: the label is 'B-CITY', no label of the model \(O, B-PER"):
        tag.evaluate(Fixed("O O O", "O O"), tag.load(tmp_path, "test"))
    rows = [{"tokens": ["a", "b"], "tags": ["O", "B-CITY"]}]
    (tmp_path / "dev.json").write_text(json.dumps(rows))
    with pytest.raises(InputError, match=r"dev.json: object 1: column 'tags', word 2, is 'B-CITY', no label"):
        tag.evaluate(Fixed("O O"), tag.load(tmp_path, "dev"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.txt", "Anna\n", "test.txt:1: a word without a label"),
        ("test.txt", "\n", "test.txt: holds no sentences"),
        ("test.json", '[{"tokens": ["a"], "tags": ["O", "O"]}]', "column 'tags' has 2 labels for 1 words"),
        ("test.json", '[{"tokens": [3], "tags": ["O"]}]', "column 'tokens' has words that are no texts"),
        ("test.json", '[{"tokens": [], "tags": []}]', "column 'tokens' is .. and not a list"),
        ("test.json", '[{"tokens": ["a"], "tags": 3}]', "column 'tags' is 3 and not a list"),
    ],
)
def test_broken_data(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        tag.load(tmp_path, "test")
