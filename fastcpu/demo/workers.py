"""The engines of the demo, each in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastcpu.eval.engine import EmbeddingEngine, FloatArray
from fastcpu.worker import Worker


@dataclass(frozen=True)
class EngineSpec:
    """A model and what runs it.

    Attributes:
        key: short name in report.json.
        label: name in tables and plots.
        engine: which runtime.
        path: ONNX file or compressed directory.
        tokenizer_dir: directory with tokenizer.json.
    """

    key: str
    label: str
    engine: Literal["onnxruntime", "fastcpu"]
    path: Path
    tokenizer_dir: Path

    def size(self) -> int:
        """Bytes of the graph and the weights; tokenizers are not counted."""
        if self.path.is_file():
            return self.path.stat().st_size
        return sum((self.path / name).stat().st_size for name in ("graph.json", "weights.safetensors"))

    def training_steps(self) -> int | None:
        """Steps of training in the report of a compressed directory."""
        report = json.loads((self.path / "report.json").read_text(encoding="utf-8"))
        steps: int | None = report.get("compression", {}).get("steps")
        return steps


def _open(spec: EngineSpec, threads: int, max_length: int) -> EmbeddingEngine:
    from fastcpu.tasks.embed import Embedder

    if spec.engine == "fastcpu":
        return Embedder(spec.path, threads=threads, max_length=max_length)
    from fastcpu.eval.ort import OrtEngine

    return Embedder(OrtEngine(spec.path, spec.tokenizer_dir, threads), max_length=max_length)


class _TimedEmbedder:
    """What runs in the process."""

    def __init__(self, spec: EngineSpec, threads: int, max_length: int) -> None:
        # Whatever is measured here is what a user without torch gets.
        sys.modules["torch"] = None  # type: ignore[assignment]
        self._engine = _open(spec, threads, max_length)

    def embed(self, texts: list[str]) -> tuple[FloatArray, float]:
        start = time.perf_counter()
        vectors = self._engine.embed(texts)
        return vectors, time.perf_counter() - start

    def latencies(self, texts: list[str]) -> list[float]:
        self._engine.embed(texts[:1])  # wakes the threads and fills the caches
        return [self.embed([text])[1] for text in texts]


class EngineProcess(Worker):
    """A running engine, until `close`."""

    def __init__(self, spec: EngineSpec, threads: int, max_length: int) -> None:
        super().__init__(spec.label, _TimedEmbedder, spec, threads, max_length)
        self.spec = spec

    def embed(self, texts: Sequence[str]) -> tuple[FloatArray, float]:
        """Vectors [texts, channels], and the seconds from texts to vectors."""
        vectors, seconds = self.call("embed", list(texts))
        return vectors, seconds

    def latencies(self, texts: Sequence[str]) -> list[float]:
        """Seconds of each text embedded alone."""
        seconds: list[float] = self.call("latencies", list(texts))
        return seconds
