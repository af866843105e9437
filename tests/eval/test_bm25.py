"""BM25 against its formula written as loops."""

from __future__ import annotations

from math import log

import pytest

from fastcpu.eval.bm25 import BM25, words

DOCUMENTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A fox, a fox and another fox!",
    "Dogs sleep; foxes do not.",
    "",
    "lazy lazy lazy afternoon with the dog",
]


def naive(query: str, document: str, k1: float, b: float) -> float:
    corpus = [words(each) for each in DOCUMENTS]
    mean = sum(map(len, corpus)) / len(corpus)
    found = words(document)
    total = 0.0
    for word in words(query):
        holding = sum(word in each for each in corpus)
        idf = log(1 + (len(corpus) - holding + 0.5) / (holding + 0.5))
        frequency = found.count(word)
        total += idf * frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * len(found) / mean))
    return total


@pytest.mark.parametrize("query", ["lazy fox", "the the dog", "unknown words", "FOX", ""])
@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (2.0, 0.0)])
def test_scores_follow_the_formula(query: str, k1: float, b: float) -> None:
    expected = [naive(query, document, k1, b) for document in DOCUMENTS]
    assert BM25(DOCUMENTS, k1, b).scores(query) == pytest.approx(expected)


def test_corpus_without_words() -> None:
    assert BM25(["", "!"]).scores("fox").tolist() == [0.0, 0.0]
