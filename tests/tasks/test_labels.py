"""Names of labels, and the entities that BIO labels mark."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastcpu import FileFormatError, InputError
from fastcpu.tasks.labels import Span, label_names, problem_type, sigmoid, softmax, spans


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
        ("I-PER I-PER", [("PER", 0, 2)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("O I-LOC O I-LOC", [("LOC", 1, 2), ("LOC", 3, 4)]),
        ("B-PER I-PER E-PER I-PER", [("PER", 0, 3), ("PER", 3, 4)]),
        ("S-PER S-PER E-LOC", [("PER", 0, 1), ("PER", 1, 2), ("LOC", 2, 3)]),
        ("B-PER L-PER U-LOC", [("PER", 0, 2), ("LOC", 2, 3)]),
        ("B-a-b I-a-b", [("a-b", 0, 2)]),
        ("NOUN NOUN VERB O X-Y", [("NOUN", 0, 2), ("VERB", 2, 3), ("X-Y", 4, 5)]),
        ("B I O B B", [("", 0, 2), ("", 3, 4), ("", 4, 5)]),
    ],
)
def test_spans(labels: str, expected: list[tuple[str, int, int]]) -> None:
    assert spans(labels.split()) == [Span(*each) for each in expected]


def test_spans_lie_one_after_the_other_and_hold_their_type(rng: np.random.Generator) -> None:
    alphabet = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("A", "B"))]
    for _ in range(300):
        labels = list(rng.choice(alphabet, 12))
        covered: list[int] = []
        for kind, first, last in spans(labels):
            assert first < last
            assert {label[2:] for label in labels[first:last]} == {kind}
            assert not {label[0] for label in labels[first + 1 : last]} & {"B", "S"}
            covered += range(first, last)
        assert covered == [place for place, label in enumerate(labels) if label != "O"]


def configure(folder: Path, **content: object) -> Path:
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def test_label_names(tmp_path: Path) -> None:
    assert label_names(tmp_path, 2) == ("LABEL_0", "LABEL_1")
    assert label_names(configure(tmp_path, id2label={"1": "yes", "0": "no"}), 2) == ("no", "yes")
    assert label_names(tmp_path, 2, ["a", "b"]) == ("a", "b")
    with pytest.raises(FileFormatError, match=r"config.json: id2label has the labels \[0, 1\], but .* 3 logits"):
        label_names(tmp_path, 3)
    with pytest.raises(InputError, match="1 labels are given, but the model has 2"):
        label_names(tmp_path, 2, ["a"])
    for wrong in (["no", "yes"], {"x": "yes"}):
        with pytest.raises(FileFormatError, match=r"id2label is not an object"):
            label_names(configure(tmp_path, id2label=wrong), 2)


def test_problem_types(tmp_path: Path) -> None:
    assert problem_type(tmp_path, 1) == "multi_label_classification"
    assert problem_type(tmp_path, 2) == "single_label_classification"
    assert problem_type(configure(tmp_path, problem_type="regression"), 1) == "regression"
    with pytest.raises(FileFormatError, match=r"problem_type is 'guess', none of single_label"):
        problem_type(configure(tmp_path, problem_type="guess"), 1)


def test_probabilities_do_not_overflow() -> None:
    logits = np.array([[1000.0, 0.0, -1000.0], [0.0, np.log(2.0), 0.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[1, 0, 0], [0.25, 0.5, 0.25]], rtol=1e-7)
    np.testing.assert_allclose(sigmoid(logits), [[1, 0.5, 0], [0.5, 2 / 3, 0.5]], rtol=1e-7)
