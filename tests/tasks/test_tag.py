"""Words, their labels, and entities, with an engine whose labels are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcpu import InputError
from fastcpu.tasks import Tagger
from fastcpu.tasks.tag import LabelOf, Tagging
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


def unsure(ids: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """As `by_word`, but the beginning of `Scotland` is not sure of its label, and its end is."""
    logits = by_word(ids)["logits"]
    logits[[WORDS[i] == "Scot" for i in ids]] /= 3
    return {"logits": logits}


@pytest.mark.parametrize(("label_of", "label"), [("first", "B-LOC"), ("average", "B-PER"), ("max", "B-PER")])
def test_what_gives_a_word_its_label(tmp_path: Path, label_of: LabelOf, label: str) -> None:
    model, texts = tagger(tmp_path, unsure), ["in Scotland .", ["in", "", "Scotland", "."], "", []]
    found = model.run(model.prepare(texts, label_of=label_of))
    probabilities = np.exp([[0, 0, 0, 1, 0], [0, 3, 0, 0, 0]])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = {"first": probabilities[0], "average": probabilities.mean(axis=0), "max": probabilities[1]}[label_of]
    for each, place, start in ((found[0], 1, 3), (found[1], 2, 4)):
        word = each.words[place]
        assert (word.text, word.label, word.start) == ("Scotland", label, start)
        assert word.score == pytest.approx(expected.max())
        assert [entity.text for entity in each.entities] == ["Scotland"]
    assert found[2:] == [Tagging((), ()), Tagging((), ())]


def test_tokens_with_labels(tmp_path: Path) -> None:
    model, text = tagger(tmp_path), "Anna in  Scotland."
    (found,) = model.run(model.prepare([text], label_of="token"))
    assert [(word.text, word.label) for word in found.words] == [
        ("Anna", "B-PER"),
        ("in", "O"),
        ("Scot", "B-LOC"),
        ("land", "B-PER"),
        (".", "O"),
    ]
    assert all(text[word.start : word.end] == word.text for word in found.words)
    assert [each.text for each in found.entities] == ["Anna", "Scot", "land"]
    (given,) = model.run(model.prepare([text.replace(".", " .").split()], label_of="token"))
    joined = "Anna in Scotland ."
    assert [(word.text, word.label) for word in given.words] == [(word.text, word.label) for word in found.words]
    assert all(joined[word.start : word.end] == word.text for word in given.words)


def test_the_stride_of_a_call(tmp_path: Path) -> None:
    texts = ["Anna lives in Scotland . " * 8]
    model, other = tagger(tmp_path, max_length=12, stride=2), tagger(tmp_path, max_length=12, stride=5)
    found, expected = model.prepare(texts, stride=5), other.prepare(texts)
    assert len(found.sequences) == len(expected.sequences) != len(model.prepare(texts).sequences)
    assert model.run(found) == other.run(expected)
    with pytest.raises(InputError, match="stride must not be negative"):
        model.prepare(texts, stride=-1)
