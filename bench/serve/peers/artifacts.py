"""Files that peers load in place of the PyTorch weights, made of the same weights.

    python -m bench.serve.peers.artifacts MODEL KIND FOLDER

`onnx-fp32`      the export, after ONNX Runtime's transformer optimizer
`onnx-int8`      that with dynamic quantization, weights per channel
`openvino-fp32`  the export as OpenVINO IR
`openvino-int8`  that quantized statically by NNCF, smoothed with exponent 0.5
`ct2-fp32`, `ct2-int8`  CTranslate2's format, beside the weights

A folder has the tokenizer and configuration of the model beside them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from bench.e2e.protocol import cached_artifact
from bench.environments import REQUIREMENTS, ROOT, python_of
from bench.serve.peers.texts import calibration_texts

OPSET = 17
RECIPE_VERSION = 3
"""Raised when this module makes other files of the same model."""
KINDS = ("onnx-fp32", "onnx-int8", "openvino-fp32", "openvino-int8", "ct2-fp32", "ct2-int8")
ENVIRONMENTS = {"onnx": "fastapi_st_exported", "openvino": "fastapi_st_exported", "ct2": "infinity"}
"""{first part of a kind: the environment of `bench.environments` that makes it}."""
WEIGHTS = {".safetensors", ".bin", ".onnx", ".h5", ".pt"}
CALIBRATION_TEXTS = 256
CALIBRATION_BATCH = 8
CT2_HUB = "hub"
"""Where a folder of CTranslate2 has the converted model."""


def fingerprint(model_dir: Path) -> str:
    """SHA-256 over the files of a model."""
    digest = hashlib.sha256()
    for path in sorted(path for path in model_dir.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(model_dir)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def artifact(model_dir: Path, cache: Path, kind: str) -> Path:
    """The folder of `kind` for the model in `model_dir`, made under `cache` unless it is there."""
    environment = ENVIRONMENTS[kind.partition("-")[0]]
    requirements = (REQUIREMENTS / f"{environment}.txt").read_bytes()
    digest = fingerprint(model_dir)
    stamp = {"recipe": RECIPE_VERSION, "model": digest, "environment": hashlib.sha256(requirements).hexdigest()}
    path = cache.resolve() / f"{model_dir.name}-{digest[:8]}" / kind

    def build(directory: Path) -> None:
        python = str(python_of(environment))
        command = [python, "-m", "bench.serve.peers.artifacts", str(model_dir.resolve()), kind, str(directory)]
        variables = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "NNCF_CI": "1", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, env=os.environ | variables, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{kind} could not be made: {(done.stderr.strip().splitlines() or ['?'])[-1]}")

    return cached_artifact(path, stamp, build)


def copy_settings(model_dir: Path, directory: Path) -> None:
    """Copies what is no weights."""
    for path in sorted(model_dir.rglob("*")):
        if path.is_file() and path.suffix not in WEIGHTS:
            target = directory / path.relative_to(model_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _export(model_dir: Path, path: Path) -> None:
    """The encoder as ONNX: int64 [batch, sequence] each in, last_hidden_state [batch, sequence, H] out."""
    import torch
    from transformers import AutoModel

    class Exported(torch.nn.Module):
        """Positional inputs, one output."""

        def __init__(self) -> None:
            super().__init__()
            # The optimizer knows the pattern of the eager attention.
            self.model = AutoModel.from_pretrained(
                model_dir, attn_implementation="eager", local_files_only=True, add_pooling_layer=False
            ).eval()

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types)[0]
            return result

    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = (torch.ones((2, 16), dtype=torch.int64), torch.ones((2, 16), dtype=torch.int64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated
        torch.onnx.export(
            Exported(),
            (*example, torch.zeros((2, 16), dtype=torch.int64)),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in [*names, "last_hidden_state"]},
        )


def _onnx(model_dir: Path, precision: str, directory: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    logging.getLogger().setLevel(logging.ERROR)  # the quantizer warns once per tensor
    config = json.loads((model_dir / "config.json").read_text())
    exported, fused = directory / "exported.onnx", directory / "model.onnx"
    _export(model_dir, exported)
    optimize_model(
        str(exported),
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
        optimization_options=FusionOptions("bert"),
        opt_level=1,
    ).save_model_to_file(str(fused))
    exported.unlink()
    if precision == "int8":
        quantize_dynamic(
            str(fused),
            str(directory / "model_quantized.onnx"),
            per_channel=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": 1},
        )
        fused.unlink()


def _openvino(model_dir: Path, precision: str, directory: Path) -> None:
    import openvino

    exported = directory / "exported.onnx"
    _export(model_dir, exported)
    model = openvino.convert_model(exported)
    if precision == "int8":
        import nncf
        import numpy as np
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        tokenizer.enable_padding()  # padding takes part in the ranges of attention
        tokenizer.enable_truncation(256)
        texts = calibration_texts()[:CALIBRATION_TEXTS]
        feeds: list[dict[str, Any]] = []
        for first in range(0, len(texts), CALIBRATION_BATCH):
            encoded = tokenizer.encode_batch(texts[first : first + CALIBRATION_BATCH])
            ids = np.array([one.ids for one in encoded], np.int64)
            mask = np.array([one.attention_mask for one in encoded], np.int64)
            feeds.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

        # With its default exponent of 0.95 the vectors come out below a cosine of 0.99.
        smooth = AdvancedSmoothQuantParameters(matmul=0.5)
        model = nncf.quantize(
            model,
            nncf.Dataset(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(feeds),
            advanced_parameters=AdvancedQuantizationParameters(smooth_quant_alphas=smooth),
        )
    openvino.save_model(model, directory / "openvino_model.xml", compress_to_fp16=False)
    exported.unlink()


def _ctranslate2(model_dir: Path, precision: str, directory: Path) -> None:
    import ctranslate2

    for path in model_dir.glob("*.safetensors"):
        shutil.copyfile(path, directory / path.name)  # Infinity loads them first
    # Infinity looks for its conversion of a model by the name of the folder.
    folder = directory / CT2_HUB / f"ctranslate2_{ctranslate2.__version__}" / f"ct2-{precision}"
    converter = ctranslate2.converters.TransformersConverter(str(model_dir))
    folder.parent.mkdir(parents=True)
    converter.convert(str(folder), quantization="int8" if precision == "int8" else "float32")


MAKERS = {"onnx": _onnx, "openvino": _openvino, "ct2": _ctranslate2}


def main(argv: list[str] | None = None) -> int:
    """Command line; runs with the Python of the kind's environment."""
    parser = argparse.ArgumentParser(prog="python -m bench.serve.peers.artifacts", description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args(argv)
    family, precision = args.kind.split("-")
    args.folder.mkdir(parents=True, exist_ok=True)
    copy_settings(args.model, args.folder)
    MAKERS[family](args.model, precision, args.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
