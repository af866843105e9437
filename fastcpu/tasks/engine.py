"""What tasks need of a model: token ids in, named arrays out. Any engine that does this runs every task."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError
from fastcpu.runtime import Session
from fastcpu.tasks.tokenizer import Encoded, IntArray

FloatArray = npt.NDArray[np.float32]
Rows = FloatArray | list[FloatArray]
"""Values of one output for several sequences: [sequences, ...], or [tokens, ...] of each if it is per token."""

ROLES = {"input_ids": "ids", "attention_mask": "mask", "token_type_ids": "types"}
"""The inputs of models as transformers calls them, and what `padded` calls them."""

BATCH_TOKENS = 8192
"""Tokens per run: enough to fill all threads, small enough for the activations to stay in the caches."""


class Engine(Protocol):
    """A model that is ready to run."""

    @property
    def directory(self) -> Path:
        """Where its tokenizer.json and config.json are."""
        ...

    @property
    def outputs(self) -> Mapping[str, tuple[int | str, ...]]:
        """The axes of every output by name: ``batch``, ``sequence``, or a number of channels."""
        ...

    @property
    def max_rows(self) -> int | None:
        """How many sequences one run should have at most, None for any number."""
        ...

    def run(self, batch: Sequence[Encoded], outputs: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        """Outputs by name, a row per sequence; those per token are as long as the longest sequence.

        At least those that ``outputs`` names, by default all.
        """
        ...


Model = str | os.PathLike[str] | Session | Engine
"""What a task takes: a directory that `fastcpu.compile` wrote, an open session on one, or any engine."""


class SessionEngine:
    """A compressed model in the runtime. Sequences run ragged, without padding and without a mask."""

    def __init__(self, session: Session) -> None:
        self.directory = Path(session.path)
        self.outputs: dict[str, tuple[int | str, ...]] = {output.name: output.dims for output in session.outputs}
        self.max_rows = None
        self._session = session
        self._names = {spec.role: spec.name for spec in session.inputs}

    def run(self, batch: Sequence[Encoded], outputs: Sequence[str] | None = None) -> Mapping[str, FloatArray]:
        feeds = {self._names["ids"]: [encoded.ids for encoded in batch]}
        if "types" in self._names:
            feeds[self._names["types"]] = [encoded.types for encoded in batch]
        return self._session.run(feeds, outputs=outputs)


def as_engine(model: Model, threads: int | None = None) -> Engine:
    """The engine for `model`; `threads` per run where a directory is opened, by default all available CPUs.

    InputError if it is none of these.
    """
    if isinstance(model, (str, os.PathLike)):
        model = Session(model, threads=threads or 0)
    if isinstance(model, Session):
        return SessionEngine(model)
    if not all(hasattr(model, name) for name in ("directory", "outputs", "max_rows", "run")):
        raise InputError(f"model must be a directory, a Session or an Engine, not {model!r:.60}")
    return model


def run_rows(engine: Engine, batch: Sequence[Encoded], outputs: Sequence[str]) -> tuple[Rows, ...]:
    """Runs one batch: the rows of each of the named outputs.

    InputError if the model computes values that are not finite, or other rows than were asked for.
    """
    arrays = engine.run(batch, outputs)
    found: list[Rows] = []
    for name in outputs:
        values = arrays[name]
        if len(values) != len(batch):
            raise InputError(f"{str(engine.directory)!r} gives {len(values)} rows of {name} for {len(batch)} sequences")
        if not np.isfinite(values).all():
            raise InputError(f"{str(engine.directory)!r} computes values of {name} that are not finite")
        per_token = engine.outputs[name][1:2] == ("sequence",)
        found.append([row[: len(each.ids)] for row, each in zip(values, batch, strict=True)] if per_token else values)
    return tuple(found)


def batches(lengths: Sequence[int], max_rows: int | None, tokens: int = BATCH_TOKENS) -> Iterator[list[int]]:
    """The indices of sequences in batches of similar length, the longest first.

    Args:
        lengths: tokens of each sequence.
        max_rows: most sequences in a batch.
        tokens: most tokens in a batch, padding included; a longer sequence is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        rows = max(1, tokens // max(1, lengths[order[start]]))
        stop = start + (rows if max_rows is None else min(rows, max_rows))
        yield order[start:stop]
        start = stop


def padded(batch: Sequence[Encoded]) -> dict[str, IntArray]:
    """`batch` for engines that need rectangles, [sequences, longest]: `ids`, `mask` and `types`, 0 in the padding."""
    shape = (len(batch), max(len(encoded.ids) for encoded in batch))
    arrays = {role: np.zeros(shape, np.int64) for role in ("ids", "mask", "types")}
    for row, encoded in enumerate(batch):
        length = len(encoded.ids)
        arrays["ids"][row, :length] = encoded.ids
        arrays["mask"][row, :length] = 1
        arrays["types"][row, :length] = encoded.types
    return arrays


def probed_axes(run: Callable[[Sequence[Encoded]], Mapping[str, FloatArray]]) -> dict[str, tuple[int | str, ...]]:
    """The `outputs` of an engine that does not know its axes: what changes between two small runs is dynamic."""

    def shapes(rows: int, length: int) -> dict[str, tuple[int, ...]]:
        sequence = np.zeros(length, np.int64)
        return {name: array.shape for name, array in run([Encoded(sequence, sequence)] * rows).items()}

    small, large = shapes(1, 3), shapes(2, 5)
    axes = {(1, 2): "batch", (3, 5): "sequence"}
    return {
        name: tuple(
            size if size == other else axes.get((size, other), "?")
            for size, other in zip(shape, large[name], strict=True)
        )
        for name, shape in small.items()
    }
