"""Evaluation sentences are recognized whatever their case and punctuation."""

from __future__ import annotations

import numpy as np
import pytest

from fastcpu.data import Contamination, decontaminate
from fastcpu.data.contamination import JACCARD, words

EVALUATION = ["A man is playing a guitar.", "The quick brown fox jumps over the lazy dog today"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a man is playing a guitar", False),
        ("A MAN, IS PLAYING: A GUITAR!!", False),
        ("a manis playing a guitar", False),  # the same letters
        ("a man plays the guitar", True),
        ("the quick brown fox jumps over the lazy dog", False),  # 8 of 9 words
        ("the quick brown fox jumps over a dog", True),  # 6 of 10
        ("", True),
    ],
)
def test_examples(text: str, kept: bool) -> None:
    assert list(decontaminate([text], EVALUATION)) == ([text] if kept else [])


def test_counts() -> None:
    counts = Contamination()
    texts = ["something else", "a man is playing a guitar!", "quick brown fox jumps over the lazy dog today yes"]
    assert list(decontaminate(texts, EVALUATION, counts)) == ["something else"]
    assert counts == Contamination(seen=3, equal=1, similar=1)


def test_the_filter_misses_nothing(rng: np.random.Generator) -> None:
    vocabulary = [f"w{i}" for i in range(14)]

    def sentences(count: int) -> list[str]:
        return [" ".join(rng.choice(vocabulary, rng.integers(1, 11))) for _ in range(count)]

    evaluation, texts = sentences(60), sentences(1500)
    sets = [set(words(each)) for each in evaluation]
    forms = {"".join(words(each)) for each in evaluation}

    def clean(text: str) -> bool:
        own = set(words(text))
        near = any(len(own & other) >= JACCARD * len(own | other) for other in sets)
        return not near and "".join(words(text)) not in forms

    expected = [text for text in texts if clean(text)]
    assert 0 < len(expected) < len(texts)
    assert list(decontaminate(texts, evaluation)) == expected
