"""Words, their labels, and entities, with an engine whose labels are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu.tasks import Tagger
from tests.tasks.models import LABELS, WORDS, FakeEngine, labelled, save_tokenizer

OF_WORD = {"Anna": "B-PER", "Paul": "I-PER", "London": "B-LOC", "Scot": "B-LOC", "##land": "B-PER"}


def by_word(ids: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    labels = [LABELS["tag"].index(OF_WORD.get(WORDS[i], "O")) for i in ids]
    return {"logits": 3.0 * np.eye(5)[labels]}


def tagger(
    folder: Path, answer: Callable[[NDArray[np.int64]], dict[str, NDArray[np.float64]]] = by_word, **options: int
) -> Tagger:
    save_tokenizer(folder, **labelled("tag"))
    return Tagger(FakeEngine(folder, {"logits": ("batch", "sequence", 5)}, answer), **options)  # type: ignore[arg-type]


def test_words_and_entities_of_a_text(tmp_path: Path) -> None:
    text = "Anna Paul lives  in Scotland,London."
    (found,) = tagger(tmp_path)([text])
    assert [word.text for word in found.words] == ["Anna", "Paul", "lives", "in", "Scotland", ",", "London", "."]
    assert [word.label for word in found.words] == ["B-PER", "I-PER", "O", "O", "B-LOC", "O", "B-LOC", "O"]
    assert all(text[word.start : word.end] == word.text for word in found.words)
    expected = [("Anna Paul", "PER", 0, 9), ("Scotland", "LOC", 20, 28), ("London", "LOC", 29, 35)]
    assert [(each.text, each.kind, each.start, each.end) for each in found.entities] == expected
    score = float(np.exp(3) / (np.exp(3) + 4))
    assert [word.score for word in found.words] == pytest.approx([score] * 8)
    assert [each.score for each in found.entities] == pytest.approx([score] * 3)


def test_lists_of_words_keep_their_words(tmp_path: Path) -> None:
    (found,) = tagger(tmp_path)([["Anna", "", "Scotland,London", "is"]])
    assert [word.label for word in found.words] == ["B-PER", "O", "B-LOC", "O"]
    assert [word.score == 0 for word in found.words] == [False, True, False, False]
    assert [(each.text, each.start, each.end) for each in found.entities] == [
        ("Anna", 0, 4),
        ("Scotland,London", 6, 21),
    ]


def test_long_texts_take_each_label_from_the_window_with_more_context(tmp_path: Path) -> None:
    """The engine writes into the logits how far a token is from the edges of its window."""

    def distance(ids: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        places = np.arange(len(ids))
        edge = np.minimum(places, len(ids) - 1 - places) / 10
        return {"logits": np.stack([edge, *[np.zeros(len(ids))] * 4], axis=1)}

    words = ["red", "green", "blue", "small", "large"] * 6
    model = tagger(tmp_path, distance, max_length=12, stride=4)
    (found,) = model([" ".join(words)])
    assert [word.text for word in found.words] == words
    assert len(model.engine.batches[0]) > 1  # type: ignore[attr-defined]
    edges = [np.log(4 * word.score / (1 - word.score)) * 10 for word in found.words]
    starts = range(0, 30 - 4, 6)  # windows of 10 words, 4 in common
    windows = [(start, min(start + 10, 30)) for start in starts]
    best = [max(min(i - a + 1, b - i) for a, b in windows if a <= i < b) for i in range(30)]
    assert edges == pytest.approx(best, abs=1e-3)
