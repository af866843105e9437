"""Classification: data, labels and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fastcpu import InputError
from fastcpu.eval import classify
from fastcpu.eval.metrics import accuracy, confusion, f1_scores, macro_f1, matthews
from fastcpu.tasks.classify import Classification
from fastcpu.tasks.tokenizer import Text


class WordClassifier:
    """The label is the number of a word in the text."""

    problem = "single_label_classification"

    def __init__(self, labels: Sequence[str], words: Sequence[str] | None = None) -> None:
        self.labels = tuple(labels)
        self._words = words or labels

    def __call__(self, inputs: Sequence[Text]) -> list[Classification]:
        joined = [each if isinstance(each, str) else " ".join(each) for each in inputs]
        return [
            Classification("", 0.0, (), tuple(float(word in text.split()) for word in self._words)) for text in joined
        ]


def naive(gold: Sequence[int], predicted: Sequence[int], labels: int) -> dict[str, float]:
    pairs = list(zip(gold, predicted, strict=True))
    scores = []
    for label in range(labels):
        right = sum(g == p == label for g, p in pairs)
        if any(label in pair for pair in pairs):
            scores.append(2 * right / (sum(g == label for g in gold) + sum(p == label for p in predicted)))
    one_hot = [[[float(each == label) for label in range(labels)] for each in side] for side in (gold, predicted)]
    a, b = (np.array(side) - np.mean(side, axis=0) for side in one_hot)
    spread = np.sqrt((a * a).sum() * (b * b).sum())
    return {
        "accuracy": sum(g == p for g, p in pairs) / len(pairs),
        "macro_f1": sum(scores) / len(scores),
        "matthews": (a * b).sum() / spread if spread else 0.0,
    }


@pytest.mark.parametrize("labels", [2, 3, 7])
@pytest.mark.parametrize("size", [1, 5, 60])
def test_metrics_follow_their_definitions(labels: int, size: int, rng: np.random.Generator) -> None:
    gold, predicted = rng.integers(0, labels, (2, size))
    counts = confusion(gold, predicted, labels)
    found = {"accuracy": accuracy(counts), "macro_f1": macro_f1(counts), "matthews": matthews(counts)}
    assert found == pytest.approx(naive(gold.tolist(), predicted.tolist(), labels))


def test_matthews_of_two_labels() -> None:
    counts = np.array([[50, 10], [5, 35]])
    expected = (50 * 35 - 10 * 5) / np.sqrt((35 + 10) * (35 + 5) * (50 + 10) * (50 + 5))
    assert matthews(counts) == pytest.approx(expected)
    assert f1_scores(counts)[1] == pytest.approx(2 * 35 / (2 * 35 + 10 + 5))
    assert matthews(np.array([[5, 5], [0, 0]])) == 0.0


SST = "sentence\tlabel\na good film\t1\na bad film\t0\ngood and bad\t1\na good one\t0\n"


def test_intervals_do_not_depend_on_how_many_counts_are_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test.tsv").write_text(SST)
    data, model = classify.load(tmp_path, "test"), WordClassifier(["bad", "good"])
    whole = classify.evaluate(model, data).values
    for cells in (1, 12):
        monkeypatch.setattr(classify, "_CELLS", cells)
        assert classify.evaluate(model, data).values == whole


def test_single_sentences(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text(SST)
    data = classify.load(tmp_path, "test")
    assert data.inputs == ["a good film", "a bad film", "good and bad", "a good one"]
    result = classify.evaluate(WordClassifier(["bad", "good"]), data)
    values = {name: interval.value for name, interval in result.values.items()}
    assert list(values) == ["accuracy", "f1", "macro_f1", "matthews"]
    # bad, good, bad, good predicted for 1, 0, 1, 0 -> right: 1, 0; the third has both words, and the first counts
    assert values == pytest.approx({"accuracy": 0.5, "f1": 0.5, "macro_f1": 0.5, "matthews": 0.0})
    assert result.values["accuracy"].low < 0.5 < result.values["accuracy"].high
    same = classify.compare(result, result)
    assert all(interval.low == interval.high == 0.0 for interval in same.values())
    worse = classify.evaluate(WordClassifier(["bad", "good"], ["good", "bad"]), data)
    assert classify.compare(result, worse)["accuracy"].value == pytest.approx(0.25)
    assert classify.inputs(data) == data.inputs


def test_pairs_with_names_of_labels(tmp_path: Path) -> None:
    (tmp_path / "dev.csv").write_text(
        "premise,hypothesis,gold\nx,yes,Entailment\ny,no,contradiction\nz,maybe,neutral\n"
    )
    columns = {"sentence1": "premise", "sentence2": "hypothesis", "label": "gold"}
    data = classify.load(tmp_path / "dev.csv", "test", columns)
    assert data.inputs == [("x", "yes"), ("y", "no"), ("z", "maybe")]
    model = WordClassifier(["contradiction", "neutral", "entailment"], ["no", "maybe", "yes"])
    result = classify.evaluate(model, data)
    assert {name: interval.value for name, interval in result.values.items()} == {
        "accuracy": 1.0,
        "macro_f1": 1.0,
        "matthews": 1.0,
    }
    assert classify.inputs(data) == data.inputs


def test_labels_that_the_model_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text(SST + "what a film\t2\n")
    data = classify.load(tmp_path, "test")
    with pytest.raises(InputError, match=r"test.tsv:6: column 'label' is '2', no label of the model \(bad, good\)"):
        classify.evaluate(WordClassifier(["bad", "good"]), data)


def test_models_for_other_problems(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text(SST)
    model = WordClassifier(["bad", "good"])
    model.problem = "regression"
    with pytest.raises(InputError, match="the model is made for regression"):
        classify.evaluate(model, classify.load(tmp_path, "test"))


def test_data_must_be_given() -> None:
    with pytest.raises(InputError, match="no default data set: give --data"):
        classify.load(None, "test")


@pytest.mark.parametrize(
    ("file", "columns", "count"),
    [
        ("sst2/test.tsv", {}, 872),
        ("rte/dev.tsv", {}, 277),
        ("rte/val.tsv", {"sentence1": "2", "sentence2": "3", "label": "4"}, 363),
        ("mrpc/msr-para-test.tsv", {"sentence1": "#1 String", "sentence2": "#2 String", "label": "Quality"}, 1725),
        ("cola/in_domain_dev.tsv", {"sentence1": "4", "label": "2"}, 527),
    ],
)
def test_real_data(file: str, columns: dict[str, str], count: int, data_dir: Path) -> None:
    data = classify.load(data_dir / file, "test", columns)
    assert len(data.inputs) == len(data.gold) == count
    assert len(set(data.gold)) == 2
    assert isinstance(data.inputs[0], str) == file.startswith(("sst2", "cola"))


class LengthModel:
    """Predicts the number of words, as a cross-encoder for similarity predicts a score."""

    labels = ("LABEL_0",)
    problem = "multi_label_classification"  # what a config.json without problem_type says of one output

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale

    def __call__(self, inputs: Sequence[Text]) -> list[Classification]:
        lengths = [self._scale * sum(len(side.split()) ** 2 for side in each) for each in inputs]
        return [Classification("LABEL_0", 0.0, (), (length,)) for length in lengths]


def pairs(folder: Path, labels: Sequence[object]) -> classify.ClassifyData:
    rows = [f"{'a ' * (index + 1)}\tb\t{label}" for index, label in enumerate(labels)]
    (folder / "test.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *rows]) + "\n")
    return classify.load(folder, "test")


def test_a_model_that_predicts_a_number(tmp_path: Path) -> None:
    gold = [0.5, 1.0, 2.5, 2.0, 4.0]
    result = classify.evaluate(LengthModel(), pairs(tmp_path, gold))
    values = {name: interval.value for name, interval in result.values.items()}
    predicted = np.array([1 + (index + 1) ** 2 for index in range(5)], np.float64)
    assert values == pytest.approx({"spearman": 0.9, "pearson": np.corrcoef(predicted, gold)[0, 1]})
    assert result.metric == "spearman"
    difference = classify.compare(result, classify.evaluate(LengthModel(-1.0), pairs(tmp_path, gold)))
    assert difference["spearman"].value == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("model", "labels", "message"),
    [
        (LengthModel(), ["1.0", "high"], r"test.tsv:3: column 'label' is 'high' and not a number"),
        (LengthModel(), ["1.0", "1" + "0" * 400], r"test.tsv:3: column 'label' is .* and not a number"),
        (LengthModel(), ["1.0", "nan"], r"test.tsv:3: column 'label' is 'nan' and not a number"),
        (LengthModel(), [3, 3.0, 3], r"test.tsv:2: column 'label': all 3 examples have 3: a correlation is not def"),
        (LengthModel(0.0), [1, 2, 3], r"the model predicts 0 for all 3 examples: a correlation is not defined"),
    ],
)
def test_numbers_that_cannot_be_compared(
    model: LengthModel, labels: Sequence[object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        classify.evaluate(model, pairs(tmp_path, labels))


def test_several_labels_per_text_are_refused(tmp_path: Path) -> None:
    model = WordClassifier(["a", "b"])
    model.problem = "multi_label_classification"
    with pytest.raises(
        InputError, match=r"made for multi_label_classification of 2 labels; what is measured is single"
    ):
        classify.evaluate(model, pairs(tmp_path, ["a", "b"]))
