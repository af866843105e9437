"""What evaluation needs of a model: texts in, vectors out. Any engine that does this can be evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fastcpu.errors import InputError
from fastcpu.eval.bootstrap import Interval

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
    samples: Mapping[str, npt.NDArray[np.float64]] = field(repr=False)


def open_engine(path: Path, threads: int, max_length: int) -> EmbeddingEngine:
    """The engine for a model: fastcpu for a compressed directory, ONNX Runtime for .onnx files and Hugging Face models.

    Raises:
        InputError: `path` is none of these.
    """
    if (path / "graph.json").is_file():
        from fastcpu.tasks.embed import Embedder

        return Embedder(path, threads=threads, max_length=max_length)
    if path.is_file() and path.suffix == ".onnx":
        from fastcpu.eval.ort import OrtEmbedder

        return OrtEmbedder(path, path.parent, threads=threads, max_length=max_length)
    if (path / "config.json").is_file():
        from fastcpu.eval.ort import embedder_from_huggingface

        return embedder_from_huggingface(path, threads=threads, max_length=max_length)
    if not path.exists():
        raise InputError(f"model {str(path)!r} does not exist")
    raise InputError(
        f"model {str(path)!r} is no compressed directory (graph.json), no .onnx file and no Hugging Face directory"
    )
