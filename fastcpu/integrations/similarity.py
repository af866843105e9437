"""Similarities of vectors, as sentence-transformers names them: greater is more similar."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def normalized(vectors: FloatArray) -> FloatArray:
    """``vectors`` [..., channels] with L2 norm 1; a zero vector stays."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: FloatArray = vectors / np.maximum(norms, np.float32(1e-12))
    return result


def _cosine(a: FloatArray, b: FloatArray) -> FloatArray:
    return _dot(normalized(a), normalized(b))


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    result: FloatArray = np.einsum("...c,...c->...", a, b)
    return result


def _euclidean(a: FloatArray, b: FloatArray) -> FloatArray:
    result: FloatArray = -np.linalg.norm(a - b, axis=-1)
    return result


def _manhattan(a: FloatArray, b: FloatArray) -> FloatArray:
    result: FloatArray = -np.abs(a - b).sum(axis=-1)
    return result


SIMILARITIES: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}
"""Name -> similarity of vectors along the last axis, [..., channels] x [..., channels] -> [...]."""


def all_pairs(name: str, a: FloatArray, b: FloatArray) -> FloatArray:
    """The similarity of every row of ``a`` [n, channels] to every row of ``b`` [m, channels]: [n, m]."""
    if name == "cosine":
        a, b, name = normalized(a), normalized(b), "dot"
    if name == "dot":
        products: FloatArray = a @ b.T
        return products
    similarity = SIMILARITIES[name]
    return np.array([similarity(row, b) for row in a], np.float32).reshape(len(a), len(b))
