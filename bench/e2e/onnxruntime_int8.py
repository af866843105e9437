"""ONNX Runtime int8: dynamic quantization and static QDQ, whichever is faster at a shape.

`dynamic`        after ORT's transformer optimizer, all of MatMul and fused Attention, per-channel weights.
`static-linear`  QDQ of the linears' inputs and per-channel weights; attention and the rest in fp32.
`static-full`    QDQ of every op that ORT quantizes by default, per-channel weights.

The static ones start from the transformer optimizer's graph without its fused Attention and embedding ops, which
QDQ cannot express. Shapes are inferred symbolically first: without them the quantizer skips activations that follow
a fused op and leaves those linears in fp32.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from bench.e2e.onnxruntime_fp32 import open_session
from bench.e2e.protocol import Answers, Engine, Precision, cached_artifact
from bench.inputs import Feeds, Shape, calibration_feeds
from bench.models import PreparedModel

CALIBRATION_SAMPLES = 16
RECIPE_VERSION = 1
QUANTIZER_OPTIONS: dict[str, Any] = {"DefaultTensorType": 1}
LINEARS_ONLY: dict[str, Any] = {"MatMulConstBOnly": True, "OpTypesToExcludeOutputQuantization": ["MatMul"]}


def _optimize(model: PreparedModel, path: Path, *, fused_attention: bool) -> None:
    """Writes the graph of ORT's transformer optimizer to `path`."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    config = json.loads((model.hf / "config.json").read_text())
    options = FusionOptions("bert")
    options.enable_attention = fused_attention
    options.enable_embed_layer_norm = fused_attention
    optimized = optimize_model(
        str(model.onnx),
        model_type="bert",
        num_heads=config.get("num_attention_heads", config.get("n_heads")),
        hidden_size=config.get("hidden_size", config.get("dim")),
        optimization_options=options,
        opt_level=1,
    )
    optimized.save_model_to_file(str(path))


def _infer_shapes(source: Path, path: Path) -> None:
    import onnx
    from onnxruntime.tools.symbolic_shape_infer import SymbolicShapeInference

    inferred = SymbolicShapeInference.infer_shapes(onnx.load(str(source)), auto_merge=True, guess_output_rank=True)
    onnx.save(inferred, str(path))


def _quantize_static(model: PreparedModel, source: Path, path: Path, *, linears_only: bool) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        """Calibration inputs, one at a time, then None."""

        def __init__(self) -> None:
            feeds = calibration_feeds(model.inputs, model.vocab, CALIBRATION_SAMPLES, text=model.text("calibration"))
            self._feeds: Iterator[Feeds] = iter(feeds)

        def get_next(self) -> Feeds | None:
            return next(self._feeds, None)

    quantize_static(
        str(source),
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"] if linears_only else None,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options=QUANTIZER_OPTIONS | (LINEARS_ONLY if linears_only else {}),
    )


class OnnxRuntimeInt8(Engine):
    """Dynamic and static per-channel int8 of one model, one session each, the chosen one running."""

    name: ClassVar[str] = "onnxruntime_int8"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx")
    precision: Precision = "int8"

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:
        """Quantizes the model each way into `cache_dir`/quantized."""
        from importlib.metadata import version

        stamp = {
            "recipe": RECIPE_VERSION,
            "model": model.fingerprint,
            "onnxruntime": version("onnxruntime"),
            "calibration_samples": CALIBRATION_SAMPLES,
        }

        def build(directory: Path) -> None:
            from onnxruntime.quantization import QuantType, quantize_dynamic

            logging.getLogger().setLevel(logging.ERROR)  # the quantizer warns once per tensor
            scratch = {name: directory / f"{name}.onnx" for name in ("fused", "unfused", "shaped")}
            _optimize(model, scratch["fused"], fused_attention=True)
            quantize_dynamic(
                str(scratch["fused"]),
                str(directory / "dynamic.onnx"),
                per_channel=True,
                weight_type=QuantType.QInt8,
                extra_options=QUANTIZER_OPTIONS,
            )
            _optimize(model, scratch["unfused"], fused_attention=False)
            _infer_shapes(scratch["unfused"], scratch["shaped"])
            for name, linears_only in (("static-linear", True), ("static-full", False)):
                _quantize_static(model, scratch["shaped"], directory / f"{name}.onnx", linears_only=linears_only)
            for path in scratch.values():
                path.unlink()

        self._directory = cached_artifact(cache_dir / "quantized", stamp, build)
        self._outputs = model.outputs

    def file(self, variant: str) -> Path:
        """The model of a variant, once prepared."""
        return self._directory / f"{variant}.onnx"

    def load(self, threads: int) -> None:
        """Notes the thread count; sessions open when a variant is first used."""
        self._threads = threads
        self._sessions: dict[str, Any] = {}

    def variants(self, shape: Shape) -> tuple[str, ...]:  # noqa: ARG002  (the same at every shape)
        """All three."""
        return ("dynamic", "static-linear", "static-full")

    def use(self, variant: str, shape: Shape) -> None:  # noqa: ARG002  (sessions take any shape)
        """Runs the session of `variant` from now on."""
        if variant not in self._sessions:
            self._sessions[variant] = open_session(self.file(variant), self._threads)
        self._session = self._sessions[variant]

    def run(self, feeds: Feeds) -> Answers:
        """Runs the chosen session."""
        return dict(zip(self._outputs, self._session.run(list(self._outputs), feeds), strict=True))

    def info(self) -> dict[str, Any]:
        """Session settings."""
        return {
            "intra_op_threads": self._threads,
            "inter_op_threads": 1,
            "graph_optimization": "all",
            "calibration_samples": CALIBRATION_SAMPLES,
        }
