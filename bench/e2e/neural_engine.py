"""Intel's Neural Engine (discontinued), the engine of the sparse 4x1 int8 kernels, in an environment of its own.

It is given DistilBERT for question answering as `neural_engine_graph` writes it, quantized by ONNX Runtime. Its
compiler makes a graph with dense linears; where at least 70 % of the 4x1 blocks of linears are zero, a second one
multiplies these with the sparse kernels, on transposed activations.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.e2e.neural_engine_graph import distilbert_qa, quantized_products
from bench.e2e.protocol import Answers, Engine, Precision, cached_artifact
from bench.inputs import Feeds, Shape, calibration_feeds
from bench.models import PreparedModel

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("start_logits", "end_logits")
CALIBRATION_SAMPLES = 8
CALIBRATION_LENGTHS = (32, 128, 384)
"""Tokens of calibration inputs; the shares of attention are as large as they are few, so one length is not enough."""
RECIPE_VERSION = 1
DENSE, SPARSE = "dense-linears", "sparse-linears"
SPARSE_TOKENS = 32
"""The sparse kernels crash or corrupt memory at sequences that are not a multiple of this."""
PACKAGE = "intel_extension_for_transformers"
COMPILER = f"{PACKAGE}.transformers.runtime.compile"
FUSED = frozenset(
    {
        "Input",
        "PaddingSequence",
        "Gather",
        "Reshape",
        "LayerNorm",
        "Quantize",
        "InnerProduct",
        "Matmul",
        "Softmax",
        "Output",
    }
)
"""The ops of a compiled graph in which every pattern was recognized."""


def _import(module: str) -> Any:
    """A module of the engine, without the rest of its package, whose own imports are not installed."""
    parent = f"{PACKAGE}.transformers"
    if parent not in sys.modules:
        package = importlib.util.find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise ModuleNotFoundError(f"no module {PACKAGE}")
        empty = types.ModuleType(parent)
        empty.__path__ = [str(Path(package.origin).parent / "transformers")]
        sys.modules[parent] = empty
    return importlib.import_module(module)


def _as_int32(feeds: Feeds) -> dict[str, Any]:
    return {name: feeds[name].astype(np.int32) for name in INPUTS}


def _quantize(source: Path, path: Path, names: list[str], vocab: int) -> None:
    """Writes QDQ with u8 activations and s8 weights per channel around the products `names`."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        """Calibration inputs, one at a time, then None."""

        def __init__(self) -> None:
            self._feeds: Iterator[Feeds] = iter(
                one
                for length in CALIBRATION_LENGTHS
                for one in calibration_feeds(INPUTS, vocab, CALIBRATION_SAMPLES, length)
            )

        def get_next(self) -> dict[str, Any] | None:
            feeds = next(self._feeds, None)
            return None if feeds is None else _as_int32(feeds)

    # The quantizer recommends a pass that would fuse what the compiler knows.
    logging.getLogger().setLevel(logging.ERROR)
    quantize_static(
        str(source),
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=names,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _files(directory: Path) -> tuple[str, str]:
    """The two files of a saved graph."""
    return str(directory / "conf.yaml"), str(directory / "model.bin")


def _compile(source: Path, directory: Path) -> list[str]:
    """Saves the graph with dense linears and, if there are any, that with sparse ones; the names of these."""
    graph = _import(COMPILER).compile(str(source))
    left = {node.op_type for node in graph.nodes} - FUSED
    if left:
        raise RuntimeError(f"the compiler left {', '.join(sorted(left))} unfused")
    graph.save(str(directory / DENSE))
    # Only a graph read back from files can be transposed.
    graph = _import(f"{COMPILER}.graph").Graph()
    graph.graph_init(*_files(directory / DENSE), load_weight=True)
    names: list[str] = graph.get_sparse_nodes_name()
    if names:
        graph.transpose_mode_int8(names)
        graph.save(str(directory / SPARSE))
    return names


class NeuralEngine(Engine):
    """One compiled graph for each kind of linears; it takes any shape."""

    name: ClassVar[str] = "neural_engine"
    packages: ClassVar[tuple[str, ...]] = ("intel-extension-for-transformers", "onnxruntime")
    environment: ClassVar[str] = "neural_engine"
    models: ClassVar[tuple[str, ...]] = ("distilbert-qa",)
    precision: Precision = "int8"

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:
        """Quantizes and compiles the model into `cache_dir`/compiled; ValueError if it is another one."""
        if model.name not in self.models:
            raise ValueError(f"{self.name} runs {', '.join(self.models)} only, not {model.name}")
        stamp = {
            "recipe": RECIPE_VERSION,
            "model": model.fingerprint,
            "calibration_samples": CALIBRATION_SAMPLES,
            "calibration_lengths": list(CALIBRATION_LENGTHS),
        }

        def build(directory: Path) -> None:
            import onnx
            from safetensors.numpy import load_file

            heads = json.loads((model.hf / "config.json").read_text())["n_heads"]
            fp32, int8 = directory / "fp32.onnx", directory / "int8.onnx"
            written = distilbert_qa(load_file(model.hf / "model.safetensors"), heads)
            onnx.save(written, str(fp32))
            _quantize(fp32, int8, quantized_products(written), model.vocab)
            names = _compile(int8, directory)
            (directory / "sparse.json").write_text(json.dumps(names, indent=2) + "\n")
            fp32.unlink()
            int8.unlink()

        self._directory = cached_artifact(cache_dir / "compiled", stamp, build)
        self._sparse_linears = len(json.loads((self._directory / "sparse.json").read_text()))

    def load(self, threads: int) -> None:
        """Sets the thread count, which the engine reads when it is loaded; a graph is loaded when first used."""
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ["GLOG_minloglevel"] = "2"  # noqa: SIM112  (its name)
        self._threads = threads
        self._graphs: dict[str, Any] = {}
        self._module = _import(f"{COMPILER}.graph")

    def variants(self, shape: Shape) -> tuple[str, ...]:
        """Dense linears, and sparse ones if enough blocks of any are zero and they can take `shape`."""
        return (DENSE, SPARSE) if self._sparse_linears and shape.sequence % SPARSE_TOKENS == 0 else (DENSE,)

    def use(self, variant: str, shape: Shape) -> None:  # noqa: ARG002  (graphs take any shape)
        """Loads the graph of `variant`, once."""
        if variant not in self._graphs:
            graph = self._module.Graph()
            graph.graph_init(*_files(self._directory / variant))
            self._graphs[variant] = graph
        self._variant = variant
        self._graph = self._graphs[variant]

    def run(self, feeds: Feeds) -> Answers:
        """Runs the graph, whose one output [batch, sequence, 2] the next run overwrites."""
        inputs = _as_int32(feeds)
        (logits,) = self._graph.inference(list(inputs.values())).values()
        columns = np.asarray(logits).reshape(*inputs[INPUTS[0]].shape, len(OUTPUTS))
        return {name: columns[..., index].copy() for index, name in enumerate(OUTPUTS)}

    def info(self) -> dict[str, Any]:
        """Threads, calibration and how many linears are multiplied with sparse kernels."""
        return {
            "threads": self._threads,
            "calibration_samples": CALIBRATION_SAMPLES,
            "calibration_lengths": list(CALIBRATION_LENGTHS),
            "sparse_linears": self._sparse_linears if self._variant == SPARSE else 0,
        }
