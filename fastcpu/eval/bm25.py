"""Okapi BM25, the lexical baseline of retrieval tasks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    """Lower-case words of letters and digits; no stemming, no stop words (frequent words weigh little by their idf)."""
    return _WORD.findall(text.lower())


class BM25:
    """Scores of documents by the words they share with a query.

    score(q, d) = sum over words w of q: idf(w) * tf * (k1 + 1) / (tf + k1 * (1 - b + b * |d| / mean |d|))
    idf(w) = log(1 + (N - n(w) + 0.5) / (n(w) + 0.5))
    with tf = the count of w in d and n(w) = how many of the N documents hold w.
    The defaults of k1 and b are those of the BEIR benchmark.
    """

    def __init__(self, documents: Sequence[str], k1: float = 0.9, b: float = 0.4) -> None:
        postings: dict[str, tuple[list[int], list[int]]] = {}
        lengths = np.zeros(len(documents))
        for index, document in enumerate(documents):
            counts = Counter(words(document))
            lengths[index] = counts.total()
            for word, count in counts.items():
                indices, frequencies = postings.setdefault(word, ([], []))
                indices.append(index)
                frequencies.append(count)
        self._count = len(documents)
        mean = lengths.mean() if lengths.any() else 1.0
        norms = k1 * (1 - b + b * lengths / mean)
        self._weights: dict[str, tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]] = {}
        for word, (indices, frequencies) in postings.items():
            rows, tf = np.array(indices), np.array(frequencies, np.float64)
            idf = np.log(1 + (self._count - len(rows) + 0.5) / (len(rows) + 0.5))
            self._weights[word] = rows, idf * tf * (k1 + 1) / (tf + norms[rows])

    def scores(self, query: str) -> npt.NDArray[np.float64]:
        """[documents]; a word that occurs twice in the query counts twice."""
        result = np.zeros(self._count)
        for word, count in Counter(words(query)).items():
            if word in self._weights:
                rows, weights = self._weights[word]
                result[rows] += count * weights
        return result
