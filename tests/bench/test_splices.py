"""Sentences that are spliced from the constituents of others."""

from __future__ import annotations

from bench.accuracy.splices import splice

SENTENCES = [
    "the film is a small and quiet wonder of its kind .",
    "a slow start does not spoil the whole of the evening .",
    "the plot is a large and noisy mess from the start .",
]
PHRASES = [
    "a small and quiet wonder",
    "a large and noisy mess",
    "the whole",
    "the start .",
    "the plot",
    "the film",
    "a",
    "of",
]


def test_constituents_change_places() -> None:
    found = splice([*SENTENCES, *PHRASES], 100, 0)
    assert len(found) > 5
    assert len(found) == len(set(found))
    assert not set(found) & {*SENTENCES, *PHRASES}
    assert "the film is a large and noisy mess of its kind ." in found
    assert all(text.endswith(".") and text.count(".") == 1 for text in found), "a full stop ends a sentence alone"
    known = {word for text in SENTENCES for word in text.split()}
    assert {word for text in found for word in text.split()} <= known


def test_the_same_seed_gives_the_same_sentences() -> None:
    texts = [*SENTENCES, *PHRASES]
    assert splice(texts, 4, 0) == splice(texts, 4, 0) != splice(texts, 4, 1)
    assert len(splice(texts, 4, 0)) == 4


def test_nothing_to_replace_gives_nothing() -> None:
    assert splice(PHRASES, 10, 0) == []
    assert splice(SENTENCES, 10, 0) == []
    assert splice([], 10, 0) == []
