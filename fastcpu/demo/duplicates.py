"""Removal of near-duplicate texts: equal after normalization, or with a large overlap of word shingles."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_WORD = re.compile(r"[a-z0-9]+")
_BLOCK = 512  # texts compared at once; bounds the memory of the overlap matrix


def normalize(text: str) -> str:
    """`text` in lower case without punctuation, words separated by one space."""
    return " ".join(_WORD.findall(text.lower()))


def shingles(text: str, length: int) -> set[tuple[str, ...]]:
    """The runs of `length` consecutive words of the normalized text; a shorter text is one shingle."""
    words = normalize(text).split()
    return {tuple(words[start : start + length]) for start in range(max(len(words) - length + 1, 1))}


def first_of_duplicates(texts: Sequence[str], length: int, threshold: float) -> npt.NDArray[np.bool_]:
    """Marks the texts to keep: a text goes if an earlier kept one has a Jaccard similarity of at least `threshold`.

    The similarity |A & B| / |A | B| of the sets of shingles of `length` words is computed exactly, for all pairs;
    texts that are equal after normalization have similarity 1.
    """
    from scipy import sparse

    vocabulary: dict[tuple[str, ...], int] = {}
    columns: list[int] = []
    sizes = np.zeros(len(texts), np.int64)
    for row, text in enumerate(texts):
        found = [vocabulary.setdefault(shingle, len(vocabulary)) for shingle in sorted(shingles(text, length))]
        columns.extend(found)
        sizes[row] = len(found)
    starts = np.concatenate(([0], np.cumsum(sizes)))
    matrix = sparse.csr_array(
        (np.ones(len(columns), np.int32), np.array(columns, np.int32), starts), shape=(len(texts), len(vocabulary))
    )
    transposed = matrix.T.tocsr()

    keep = np.ones(len(texts), np.bool_)
    for begin in range(0, len(texts), _BLOCK):
        overlap = (matrix[begin : begin + _BLOCK] @ transposed).tocoo()
        rows, others = overlap.row + begin, overlap.col
        union = sizes[rows] + sizes[others] - overlap.data
        similar = (others < rows) & (overlap.data >= threshold * union)
        for row, other in sorted(zip(rows[similar].tolist(), others[similar].tolist(), strict=True)):
            if keep[other]:
                keep[row] = False
    return keep
