"""OpenVINO on the fp32 ONNX file, computing in fp32.

Models are compiled for the exact shape that is measured, which is at least as fast as with dynamic dimensions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.e2e.protocol import Answers, Engine, Precision
from bench.inputs import Feeds, Shape
from bench.models import PreparedModel

STREAMS = 2
"""Streams, and parts of a batch, in the throughput variant."""
MIN_BATCH_FOR_STREAMS = 8


class OpenVino(Engine):
    """Compiles one file per shape for latency, or for throughput with each batch split over the streams."""

    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    _file: Path

    def precision_hint(self) -> str:
        """INFERENCE_PRECISION_HINT for this CPU."""
        return "f32"

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:  # noqa: ARG002  (nothing to make)
        """Remembers the file to compile."""
        self._file = model.onnx
        self._outputs = model.outputs

    def load(self, threads: int) -> None:
        """Reads the device's capabilities."""
        import openvino

        self._openvino = openvino
        self._core = openvino.Core()
        self._threads = threads
        self._hint = self.precision_hint()

    def variants(self, shape: Shape) -> tuple[str, ...]:
        """Latency; from batch 8 on also two streams."""
        return ("latency", "throughput") if shape.batch >= MIN_BATCH_FOR_STREAMS else ("latency",)

    def use(self, variant: str, shape: Shape) -> None:
        """Compiles the model for `shape`, or for the part of its batch that one stream gets."""
        parts = STREAMS if variant == "throughput" else 1
        sizes = [len(part) for part in np.array_split(np.arange(shape.batch), parts)]
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "INFERENCE_NUM_THREADS": self._threads,
            "PERFORMANCE_HINT": variant.upper(),
        }
        if variant == "throughput":
            settings["NUM_STREAMS"] = STREAMS
        self._settings = settings
        self._requests: list[Any] = []
        model = self._core.read_model(self._file)
        same = len(set(sizes)) == 1
        model.reshape({port.any_name: [sizes[0] if same else -1, shape.sequence] for port in model.inputs})
        compiled = self._core.compile_model(model, "CPU", settings)
        self._requests = [compiled.create_infer_request() for _ in sizes]
        self._ends = np.cumsum(sizes)[:-1]

    def run(self, feeds: Feeds) -> Answers:
        """Runs each part of the batch on its request and joins the answers."""
        if len(self._requests) == 1:
            self._requests[0].infer(feeds, share_inputs=True)
            return {name: self._requests[0].get_tensor(name).data.copy() for name in self._outputs}
        split = {name: np.split(value, self._ends) for name, value in feeds.items()}
        for index, request in enumerate(self._requests):
            request.start_async({name: parts[index] for name, parts in split.items()}, share_inputs=True)
        for request in self._requests:
            request.wait()
        return {name: np.concatenate([r.get_tensor(name).data for r in self._requests]) for name in self._outputs}

    def info(self) -> dict[str, Any]:
        """Compilation settings of the variant in use and the device's capabilities."""
        return {
            "settings": {key: str(value) for key, value in self._settings.items()},
            "shapes": "static",
            "capabilities": list(self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        }


class OpenVinoFp32(OpenVino):
    """fp32 weights and arithmetic."""

    name: ClassVar[str] = "openvino_fp32"
    precision: Precision = "fp32"
