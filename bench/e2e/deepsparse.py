"""DeepSparse, the sparse engine of Neural Magic (discontinued), in an environment of its own.

It takes int8 in one form only, linears as QuantizeLinear, MatMulInteger, Add, Cast and Mul, which `quantize` writes;
attention stays in f32. What its zeros look like counts: besides the model's own weights (`4x1`: blocks of four
outputs), it is given the same values in blocks of four inputs (`1x4`), another model with answers of its own, which
ONNX Runtime gives in fp32. It compiles a model for one shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.e2e.onnxruntime_fp32 import open_session
from bench.e2e.protocol import Answers, Engine, Precision, cached_artifact
from bench.inputs import Feeds, Shape, calibration_feeds
from bench.models import PreparedModel

CALIBRATION_SAMPLES = 16
RECIPE_VERSION = 1
BLOCK = 4
ORIENTATIONS = ("4x1", "1x4")
PRECISIONS = ("int8", "fp32")


def linear_weights(graph: Any) -> dict[str, Any]:
    """{name of a MatMul: its constant weight [K, N]} of the encoder's linears: those with a multiple of 4 outputs."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul" and node.input[1] in constants]
    return {node.name: constants[node.input[1]] for node in products if constants[node.input[1]].dims[1] % BLOCK == 0}


def turn_blocks(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """A [K, N] weight with the values of another, whose blocks of four outputs become blocks of four inputs."""
    inputs, outputs = weight.shape
    blocks = weight.T.reshape(outputs // BLOCK, BLOCK, inputs).transpose(0, 2, 1)
    return np.ascontiguousarray(blocks.reshape(outputs, inputs).T)


def _largest_inputs(model: Any, names: list[str], feeds: list[Feeds]) -> dict[str, tuple[float, float]]:
    """{value: least and largest over `feeds`}; both ends include 0."""
    import onnx
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    ranges = dict.fromkeys(names, (0.0, 0.0))
    for one in feeds:
        for name, value in zip(names, session.run(names, one), strict=True):
            low, high = ranges[name]
            ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return ranges


def quantize(model: Any, feeds: list[Feeds]) -> Any:
    """The model with static u8 inputs and s8 weights per channel in its encoder linears."""
    import onnx
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = linear_weights(graph)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    ranges = _largest_inputs(model, sorted({node.input[0] for node in graph.node if node.name in weights}), feeds)
    nodes: list[Any] = []
    replaced: set[str] = set()
    quantized: set[str] = set()

    def constant(name: str, value: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    for node in graph.node:
        if node.name in replaced:
            continue
        if node.name not in weights:
            nodes.append(node)
            continue
        x, (low, high) = node.input[0], ranges[node.input[0]]
        scale = max(high - low, 1e-9) / 255
        if x not in quantized:
            constant(f"{x}.scale", np.float32(scale))
            constant(f"{x}.zero_point", np.uint8(round(-low / scale)))
            nodes.append(
                helper.make_node("QuantizeLinear", [x, f"{x}.scale", f"{x}.zero_point"], [f"{x}.u8"], f"{x}.quantize")
            )
            quantized.add(x)
        weight = constants[node.input[1]]
        weight_scale = np.maximum(np.abs(weight).max(axis=0), 1e-9) / 127
        w = constant(f"{node.name}.s8", np.rint(weight / weight_scale).astype(np.int8))
        zero = constant(f"{node.name}.zero", np.int8(0))
        (add,) = users[node.output[0]]
        bias = next(constants[name] for name in add.input if name in constants)
        product_scale = (scale * weight_scale).astype(np.float32)
        b = constant(f"{node.name}.bias", np.rint(bias / product_scale).astype(np.int32))
        s = constant(f"{node.name}.product_scale", product_scale)
        name = node.name
        nodes += [
            helper.make_node("MatMulInteger", [f"{x}.u8", w, f"{x}.zero_point", zero], [f"{name}.s32"], name),
            helper.make_node("Add", [f"{name}.s32", b], [f"{name}.sum"], f"{name}.add"),
            helper.make_node("Cast", [f"{name}.sum"], [f"{name}.f32"], f"{name}.cast", to=onnx.TensorProto.FLOAT),
            helper.make_node("Mul", [f"{name}.f32", s], [add.output[0]], f"{name}.mul"),
        ]
        replaced.add(add.name)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model


class DeepSparse(Engine):
    """One compiled model for each precision, orientation and shape."""

    name: ClassVar[str] = "deepsparse"
    packages: ClassVar[tuple[str, ...]] = ("deepsparse", "onnxruntime")
    environment: ClassVar[str] = "deepsparse"
    precision: Precision = "int8"

    def prepare(self, model: PreparedModel, cache_dir: Path) -> None:
        """Writes the model in both orientations and precisions into `cache_dir`/models."""
        stamp = {"recipe": RECIPE_VERSION, "model": model.fingerprint, "calibration_samples": CALIBRATION_SAMPLES}

        def build(directory: Path) -> None:
            import onnx
            import onnxruntime
            from onnx import numpy_helper

            # Constants are folded, and what the exporter computes of shapes with them.
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.optimized_model_filepath = str(directory / "folded.onnx")
            onnxruntime.InferenceSession(str(model.onnx), options, providers=["CPUExecutionProvider"])
            feeds = calibration_feeds(model.inputs, model.vocab, CALIBRATION_SAMPLES, text=model.text("calibration"))
            for orientation in ORIENTATIONS:
                fp32 = onnx.load(str(directory / "folded.onnx"))
                standard = [opset for opset in fp32.opset_import if not opset.domain]
                del fp32.opset_import[:]
                fp32.opset_import.extend(standard)  # DeepSparse knows no newer version of what is not used
                if orientation == "1x4":
                    for tensor in linear_weights(fp32.graph).values():
                        turned = turn_blocks(numpy_helper.to_array(tensor))
                        tensor.CopyFrom(numpy_helper.from_array(turned, tensor.name))
                onnx.save(fp32, str(directory / f"fp32-{orientation}.onnx"))
                onnx.save(quantize(fp32, feeds), str(directory / f"int8-{orientation}.onnx"))

        self._directory = cached_artifact(cache_dir / "models", stamp, build)
        self._orientations = ORIENTATIONS if model.sparsity > 0 else ORIENTATIONS[:1]
        self._outputs = model.outputs

    def load(self, threads: int) -> None:
        """Notes the thread count; a model is compiled when its variant is first used."""
        self._threads = threads
        self._engines: dict[tuple[str, Shape], Any] = {}

    def variants(self, shape: Shape) -> tuple[str, ...]:  # noqa: ARG002  (the same at every shape)
        """Each precision and orientation; the orientation of a dense model is one."""
        return tuple(f"{precision}-{orientation}" for precision in PRECISIONS for orientation in self._orientations)

    def use(self, variant: str, shape: Shape) -> None:
        """Compiles `variant` for `shape`, once."""
        import deepsparse

        if (variant, shape) not in self._engines:
            self._engines[variant, shape] = deepsparse.Engine(
                str(self._directory / f"{variant}.onnx"),
                batch_size=shape.batch,
                num_cores=self._threads,
                input_shapes=[[shape.batch, shape.sequence]],
            )
        self._variant = variant
        self._engine = self._engines[variant, shape]
        self._inputs = self._engine.input_names

    def reference(self, feeds: Feeds) -> Answers | None:
        """The fp32 answers of the weights in blocks of inputs; nothing for the model's own."""
        orientation = self._variant.split("-")[1]
        if orientation == ORIENTATIONS[0]:
            return None
        session = open_session(self._directory / f"fp32-{orientation}.onnx", self._threads)
        return dict(zip(self._outputs, session.run(list(self._outputs), feeds), strict=True))

    def run(self, feeds: Feeds) -> Answers:
        """Runs the compiled model."""
        answers = self._engine.run([feeds[name] for name in self._inputs], val_inp=False)
        return dict(zip(self._outputs, answers, strict=True))

    def info(self) -> dict[str, Any]:
        """Threads and calibration size."""
        return {"threads": self._threads, "calibration_samples": CALIBRATION_SAMPLES}
