"""What is evaluated: models of every kind behind one interface, and what a measurement gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError
from fastcpu.eval.bootstrap import Interval
from fastcpu.tasks.engine import Engine, as_engine

FloatArray = npt.NDArray[np.float32]


class EmbeddingEngine(Protocol):
    """A sentence encoder."""

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """One L2-normalized vector per text: [texts, channels]."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Result of one task.

    Attributes:
        metric: name of the headline metric.
        examples: how many examples (pairs, queries) were measured.
        values: every metric with its 95 % bootstrap interval, the headline metric first.
        samples: per example, what paired comparisons need.
    """

    metric: str
    examples: int
    values: Mapping[str, Interval]
    samples: Mapping[str, npt.NDArray[Any]] = field(repr=False)


def open_engine(path: Path, threads: int, head: str) -> Engine:
    """The engine for a model: fastcpu for a compressed directory, ONNX Runtime for .onnx files, torch for Hugging Face.

    Args:
        path: the model.
        threads: threads per run.
        head: ending of the class of a Hugging Face model, as `Task.head`.

    Raises:
        InputError: `path` is none of these.
    """
    if (path / "graph.json").is_file():
        return as_engine(path, threads)
    if path.is_file() and path.suffix == ".onnx":
        from fastcpu.eval.ort import OrtEngine

        return OrtEngine(path, threads=threads)
    if any((path / name).is_file() for name in ("config.json", "modules.json")):
        from fastcpu.eval.torch_engine import open_directory

        return open_directory(path, head, threads)
    if not path.exists():
        raise InputError(f"model {str(path)!r} does not exist")
    raise InputError(
        f"model {str(path)!r} is no compressed directory (graph.json), no .onnx file and no Hugging Face directory"
    )
