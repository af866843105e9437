"""Each engine in a process of its own, so that no engine's waiting threads slow another one down."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from fastcpu.errors import FastcpuError
from fastcpu.eval.engine import EmbeddingEngine, FloatArray

_STOP_SECONDS = 10.0
_SETTLE_SECONDS = 0.05  # waiting threads of the engine before stop spinning


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


def _open(spec: EngineSpec, threads: int, max_length: int) -> EmbeddingEngine:
    if spec.engine == "fastcpu":
        from fastcpu.tasks.embed import Embedder

        return Embedder(spec.path, threads=threads, max_length=max_length)
    from fastcpu.eval.ort import OrtEmbedder

    return OrtEmbedder(spec.path, spec.tokenizer_dir, threads=threads, max_length=max_length)


def _serve(connection: Connection, spec: EngineSpec, threads: int, max_length: int) -> None:
    """Main function of the process: answers (command, texts) until None comes."""
    # Whatever is measured here is what a user without torch gets.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        engine = _open(spec, threads, max_length)
        connection.send(None)
        while (request := connection.recv()) is not None:
            command, texts = request
            connection.send(_timed_embed(engine, texts) if command == "embed" else _latencies(engine, texts))
    except FastcpuError as error:
        connection.send(error)
    except (EOFError, KeyboardInterrupt):
        return


def _timed_embed(engine: EmbeddingEngine, texts: list[str]) -> tuple[FloatArray, float]:
    start = time.perf_counter()
    vectors = engine.embed(texts)
    return vectors, time.perf_counter() - start


def _latencies(engine: EmbeddingEngine, texts: list[str]) -> list[float]:
    engine.embed(texts[:1])  # wakes the threads and fills the caches
    return [_timed_embed(engine, [text])[1] for text in texts]


class EngineProcess:
    """A running engine, until `close`."""

    def __init__(self, spec: EngineSpec, threads: int, max_length: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.spec = spec
        self._connection, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, spec, threads, max_length), daemon=True)
        self._process.start()
        child.close()

    def wait_ready(self) -> None:
        """Returns when the model is loaded."""
        self._receive()

    def embed(self, texts: Sequence[str]) -> tuple[FloatArray, float]:
        """Vectors [texts, channels], and the seconds from texts to vectors."""
        vectors, seconds = self._request("embed", texts)
        return vectors, seconds

    def latencies(self, texts: Sequence[str]) -> list[float]:
        """Seconds of each text embedded alone."""
        seconds: list[float] = self._request("latencies", texts)
        return seconds

    def _request(self, command: str, texts: Sequence[str]) -> Any:
        time.sleep(_SETTLE_SECONDS)
        self._connection.send((command, list(texts)))
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join(_STOP_SECONDS)
            raise FastcpuError(f"{self.spec.label}: its process ended with status {self._process.exitcode}") from None
        if isinstance(answer, FastcpuError):
            raise answer
        return answer

    def close(self) -> None:
        """Ends the process."""
        with suppress(OSError):  # when the process has ended already
            self._connection.send(None)
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()
        self._connection.close()
