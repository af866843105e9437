"""The linear readout: what it makes of embeddings that are a teacher's with noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastcpu.distill import readout

Array = NDArray[np.float32]


def unit(x: NDArray[np.float64]) -> Array:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def embeddings(rng: np.random.Generator, texts: int, noise: float) -> tuple[Array, Array]:
    """A teacher whose directions have variances of several magnitudes, and a student with noise as large in each."""
    y = rng.normal(size=(texts, 24)) * np.linspace(1, 0.05, 24)
    turned = y @ np.linalg.qr(np.random.default_rng(1).normal(size=(24, 24)))[0]
    return unit(turned + noise * rng.normal(size=y.shape)), unit(y)


def pairs(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """2 x count embeddings, of queries and of what they ask for: a student that mixes its channels, and a teacher."""
    scale = np.geomspace(1, 0.02, 24)
    queries = rng.normal(size=(count, 24))
    y = unit(np.vstack([queries, queries + 0.3 * rng.normal(size=queries.shape)]) * scale)
    mix = np.eye(24) + 0.2 * np.random.default_rng(1).normal(size=(24, 24))
    return unit((y + 0.2 * scale**0.5 * rng.normal(size=y.shape)) @ mix), y


def found_first(vectors: Array) -> float:
    """How often the nearest of all documents is that of the query."""
    queries, documents = np.split(vectors, 2)
    return float(np.mean((queries @ documents.T).argmax(axis=1) == np.arange(len(queries))))


def test_it_ranks_better_than_the_nearest_embeddings(rng: np.random.Generator) -> None:
    x, y = pairs(rng, 4000)
    weight = readout.solve(x, y)
    assert weight.shape == (24, 24)
    assert weight.dtype == np.float32
    nearest = np.linalg.lstsq(x, y, rcond=None)[0]
    x, y = pairs(rng, 2000)
    with_readout = found_first(unit(x @ weight.T))
    assert found_first(y) > with_readout + 0.1  # there is something to lose
    assert with_readout > found_first(unit(x @ nearest)) + 0.02
    assert with_readout > found_first(x) + 0.02


def test_its_scale_is_the_teachers_in_every_direction(rng: np.random.Generator) -> None:
    x, y = embeddings(rng, 20000, 0.02)
    weight = readout.solve(x, y)
    x, y = embeddings(rng, 20000, 0.02)
    mapped = x @ weight.T
    _, directions = np.linalg.eigh(np.cov(y.T))
    a, b = (each @ directions - (each @ directions).mean(axis=0) for each in (mapped, y))
    slopes = (a * b).sum(axis=0) / (b * b).sum(axis=0)
    np.testing.assert_allclose(slopes, 1, atol=0.05)


def test_a_student_that_is_the_teacher_stays_so(rng: np.random.Generator) -> None:
    _, y = embeddings(rng, 1000, 0.0)
    flat = np.hstack([y, np.zeros((1000, 2), np.float32)])  # two channels in which nothing varies
    np.testing.assert_allclose(unit(flat @ readout.solve(flat, flat).T), flat, atol=2e-2)
