"""A real int8 model gives the same bits everywhere, and those of the NumPy reference."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import fastcpu
from fastcpu import _core
from fastcpu.export.reader import read_graph
from tests.e2e.conftest import padded
from tests.reference import executor


def assert_equal_everywhere(
    directory: Path, rows: list[NDArray[np.int64]], expected: dict[str, NDArray[np.float32]]
) -> None:
    """On every tier, with 1 to 3 threads, sparse and dense, padded, ragged and alone."""
    feeds = padded(rows)
    last = len(rows) - 1
    before = _core.selected_isa()
    try:
        for isa in _core.supported_isas():
            _core.force_isa_for_testing(isa)
            for threads, execution in [(1, "sparse"), (2, "dense"), (2, "auto"), (3, "sparse")]:
                session = fastcpu.Session(directory, threads=threads, execution=execution)  # type: ignore[arg-type]
                where = f"{isa}, {threads} threads, {execution}"
                for name, array in session.run(feeds).items():
                    np.testing.assert_array_equal(array, expected[name], err_msg=f"{name}, padded, {where}")
                for name, array in session.run({"input_ids": rows}).items():
                    np.testing.assert_array_equal(array, expected[name], err_msg=f"{name}, ragged, {where}")
                for name, array in session.run(padded(rows[last:])).items():
                    whole = expected[name][last]
                    np.testing.assert_array_equal(array[0], whole[: len(array[0])], err_msg=f"{name}, alone, {where}")
    finally:
        _core.force_isa_for_testing(before)
    print(hashlib.sha256(b"".join(expected[name].tobytes() for name in sorted(expected))).hexdigest())


def test_minilm_is_equal_everywhere(minilm_int8: Path, minilm_rows: list[NDArray[np.int64]]) -> None:
    rows = sorted(minilm_rows[:40], key=len)[::5]
    expected = executor.run(read_graph(minilm_int8), padded(rows))
    assert set(expected) == {"last_hidden_state", "sentence_embedding"}
    assert_equal_everywhere(minilm_int8, rows, expected)


def test_distilbert_is_equal_everywhere(distilbert_int8: Path, minilm_rows: list[NDArray[np.int64]]) -> None:
    rows = sorted(minilm_rows[:40], key=len)[::9]
    expected = executor.run(read_graph(distilbert_int8), padded(rows))
    assert set(expected) == {"start_logits", "end_logits"}
    assert_equal_everywhere(distilbert_int8, rows, expected)


def test_the_order_of_a_batch_does_not_matter(
    minilm_int8: Path, minilm_rows: list[NDArray[np.int64]], rng: np.random.Generator
) -> None:
    session = fastcpu.Session(minilm_int8)
    rows = minilm_rows[:96]
    expected = session.run({"input_ids": rows})["sentence_embedding"]
    for _ in range(3):
        order = rng.permutation(len(rows))
        shuffled = session.run({"input_ids": [rows[i] for i in order]})["sentence_embedding"]
        np.testing.assert_array_equal(shuffled, expected[order])
