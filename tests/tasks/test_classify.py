"""Labels and scores of every kind of classifier."""

from __future__ import annotations

from math import exp
from pathlib import Path

import pytest

from fastcpu.tasks import Classifier
from tests.tasks.models import FakeEngine, save_tokenizer

LOGITS = [0.5, 2.0, -1.0]


def classifier(folder: Path, channels: int, **config: object) -> Classifier:
    save_tokenizer(folder, **config)
    return Classifier(FakeEngine(folder, {"logits": ("batch", channels)}, lambda _: {"logits": LOGITS[:channels]}))


def test_one_label_of_several(tmp_path: Path) -> None:
    model = classifier(tmp_path, 3, id2label={"0": "bad", "1": "good", "2": "neither"})
    (found,) = model(["the red house"])
    total = sum(map(exp, LOGITS))
    assert (model.problem, found.label, found.logits) == ("single_label_classification", "good", (0.5, 2.0, -1.0))
    assert found.scores == pytest.approx([exp(logit) / total for logit in LOGITS])
    assert found.score == max(found.scores)


def test_labels_that_may_all_hold(tmp_path: Path) -> None:
    (found,) = classifier(tmp_path, 3, problem_type="multi_label_classification")(["the red house"])
    assert found.scores == pytest.approx([1 / (1 + exp(-logit)) for logit in LOGITS])
    assert (found.label, found.score) == ("LABEL_1", found.scores[1])


def test_a_yes_or_no_question(tmp_path: Path) -> None:
    (found,) = classifier(tmp_path, 1, id2label={"0": "spam"})(["the red house"])
    assert (found.label, found.score) == ("spam", pytest.approx(1 / (1 + exp(-0.5))))


def test_regression(tmp_path: Path) -> None:
    (found,) = classifier(tmp_path, 1, problem_type="regression")([("the red house", "the house")])
    assert found.score == 0.5
    assert found.scores == found.logits == (0.5,)


def test_names_that_are_given(tmp_path: Path) -> None:
    save_tokenizer(tmp_path)
    engine = FakeEngine(tmp_path, {"logits": ("batch", 2)}, lambda _: {"logits": [1.0, 0.0]})
    assert Classifier(engine, labels=["entailment", "other"])(["red"])[0].label == "entailment"
