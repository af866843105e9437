"""fastcpu: its runtime on a model directory that `fastcpu.compile` made from the Hugging Face directory.

Options: `model` an existing model directory to run instead of compiling one; `quantize` none, dynamic or static
(the default), the last with `smooth` 0.5 (the default), another exponent or none; `source` hf (the default) or onnx,
what to compile from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.e2e.protocol import Answers, Engine, Precision, cached_artifact
from bench.inputs import Feeds, Shape, calibration_feeds
from bench.models import PreparedModel

CALIBRATION_SAMPLES = 64
DEFAULT_SMOOTH = "0.5"
"""As in SmoothQuant; OpenVINO's quantizer does the same by default."""


class FastCpu(Engine):
    """One `fastcpu.Session` for all shapes; the ISA tier is the one it picks or FASTCPU_ISA names."""

    name: ClassVar[str] = "fastcpu"
    packages: ClassVar[tuple[str, ...]] = ("fastcpu",)
    option_names: ClassVar[tuple[str, ...]] = ("model", "quantize", "smooth", "source")
    precision: Precision = "int8"

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:
        """Compiles the model into `cache_dir`/compiled unless the option `model` names a directory."""
        quantize = self.options.get("quantize", "static")
        self.precision = "fp32" if quantize == "none" else "int8"
        self._outputs = model.outputs
        if "model" in self.options:
            self._directory = Path(self.options["model"])
            return
        sources = {"hf": model.hf, "onnx": model.onnx}
        source = sources[self.options.get("source", "hf")]
        if "smooth" in self.options and quantize != "static":
            raise ValueError(f"smooth goes with static quantization, not {quantize}")
        wanted = self.options.get("smooth", DEFAULT_SMOOTH if quantize == "static" else "none")
        smooth = None if wanted == "none" else float(wanted)

        def build(directory: Path) -> None:
            import fastcpu

            calibration = calibration_feeds(
                model.inputs, model.vocab, CALIBRATION_SAMPLES, text=model.text("calibration")
            )
            extra = {"calibration": calibration, "smooth": smooth} if quantize == "static" else {}
            fastcpu.compile(str(source), str(directory / "model"), quantize=quantize, **extra)

        stamp = {"model": model.fingerprint, "quantize": quantize, "smooth": smooth, "source": source.name}
        self._directory = cached_artifact(cache_dir / "compiled", stamp, build) / "model"

    def load(self, threads: int) -> None:
        """Opens the session."""
        import fastcpu

        self._threads = threads
        self._session = fastcpu.Session(str(self._directory), threads=threads)

    def use(self, variant: str, shape: Shape) -> None:
        """One session serves all shapes."""

    def run(self, feeds: Feeds) -> Answers:
        """Runs the session."""
        answers = self._session.run(feeds)
        return {name: np.asarray(answers[name]) for name in self._outputs}

    def info(self) -> dict[str, Any]:
        """Options and threads."""
        return {"threads": self._threads, "options": self.options, "calibration_samples": CALIBRATION_SAMPLES}
