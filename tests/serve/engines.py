"""Engines that need no model, and work for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastcpu.tasks.engine import Rows
from fastcpu.tasks.task import Work
from fastcpu.tasks.tokenizer import Encoded


class CountingEngine:
    """Its output is the sum of the ids of each sequence.

    Args:
        before: called with the batch in front of every run; may wait or raise.
    """

    directory = Path("counting")
    outputs = {"sum": ("batch", 1), "last": ("batch", 1)}  # noqa: RUF012
    max_rows = None

    def __init__(self, before: Callable[[list[list[int]]], None] | None = None) -> None:
        self._before = before
        self.batches: list[list[list[int]]] = []

    def run(self, batch: Sequence[Encoded], outputs: Sequence[str] | None = None) -> dict[str, NDArray[np.float32]]:
        ids = [each.ids.tolist() for each in batch]
        self.batches.append(ids)
        if self._before is not None:
            self._before(ids)
        found = {
            "sum": np.array([[sum(each)] for each in ids], np.float32),
            "last": np.array([[each[-1]] for each in ids], np.float32),
        }
        return {name: found[name] for name in outputs or found}


class Gate:
    """Holds up runs until it is opened; what `CountingEngine` calls before each."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.reached = threading.Semaphore(0)

    def __call__(self, _: list[list[int]]) -> None:
        self.reached.release()
        assert self.opened.wait(60)

    def wait(self) -> None:
        """Until a run has come to the gate."""
        assert self.reached.acquire(timeout=60)


def sequence(*ids: int) -> Encoded:
    array = np.array(ids, np.int64)
    return Encoded(array, np.zeros_like(array))


def summing(*sequences: Sequence[int], output: str = "sum") -> Work[float]:
    """Work whose results are an output of `CountingEngine` for each sequence."""
    found = [0.0] * len(sequences)
    taken: list[int] = []

    def take(indices: Sequence[int], rows: tuple[Rows, ...]) -> None:
        for index, row in zip(indices, rows[0], strict=True):
            assert index not in taken
            taken.append(index)
            found[index] = float(row[0])

    return Work([sequence(*each) for each in sequences], (output,), take, lambda: found)
