"""ONNX Runtime on the fp32 ONNX file as exported: the reference for every other engine's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from bench.e2e.protocol import Answers, Engine, Precision
from bench.inputs import Feeds, Shape
from bench.models import PreparedModel


def open_session(path: Path, threads: int) -> Any:
    """InferenceSession with intra-op `threads`, inter-op 1 and all graph optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OnnxRuntimeFp32(Engine):
    """CPU execution provider, all optimizations, intra-op threads as asked, inter-op 1."""

    name: ClassVar[str] = "onnxruntime_fp32"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    precision: Precision = "fp32"

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:  # noqa: ARG002  (nothing to make)
        """Remembers the ONNX file."""
        self._path = model.onnx
        self._outputs = model.outputs

    def load(self, threads: int) -> None:
        """Opens the session."""
        self._threads = threads
        self._session = open_session(self._path, threads)

    def use(self, variant: str, shape: Shape) -> None:
        """One session serves all shapes."""

    def run(self, feeds: Feeds) -> Answers:
        """Runs the session."""
        return dict(zip(self._outputs, self._session.run(list(self._outputs), feeds), strict=True))

    def info(self) -> dict[str, Any]:
        """Session settings."""
        return {"intra_op_threads": self._threads, "inter_op_threads": 1, "graph_optimization": "all"}
