"""OpenVINO on a model that NNCF quantized statically, with the rest of it in bf16 where the CPU has that."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from bench.e2e.openvino_fp32 import OpenVino
from bench.e2e.protocol import Precision, cached_artifact
from bench.inputs import calibration_feeds
from bench.models import PreparedModel

CALIBRATION_SAMPLES = 64
RECIPE_VERSION = 1


class OpenVinoInt8(OpenVino):
    """nncf.quantize for transformers (smooth quantization and fast bias correction included)."""

    name: ClassVar[str] = "openvino_int8"
    packages: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    precision: Precision = "int8"

    def precision_hint(self) -> str:
        """bf16 where the device computes it, else f32."""
        return "bf16" if "BF16" in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:
        """Quantizes the model into `cache_dir`/quantized."""
        from importlib.metadata import version

        super().prepare(model, cache_dir)
        stamp = {
            "recipe": RECIPE_VERSION,
            "model": model.fingerprint,
            "nncf": version("nncf"),
            "openvino": version("openvino"),
            "calibration_samples": CALIBRATION_SAMPLES,
        }

        def build(directory: Path) -> None:
            import nncf
            import openvino

            quantized = nncf.quantize(
                openvino.Core().read_model(model.onnx),
                nncf.Dataset(
                    calibration_feeds(model.inputs, model.vocab, CALIBRATION_SAMPLES, text=model.text("calibration"))
                ),
                model_type=nncf.ModelType.TRANSFORMER,
                subset_size=CALIBRATION_SAMPLES,
            )
            openvino.save_model(quantized, directory / "model.xml", compress_to_fp16=False)

        self._file = cached_artifact(cache_dir / "quantized", stamp, build) / "model.xml"

    def info(self) -> dict[str, Any]:
        """Settings and calibration size."""
        return super().info() | {"calibration_samples": CALIBRATION_SAMPLES}
