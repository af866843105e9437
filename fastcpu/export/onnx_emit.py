"""What an ONNX file is built from: nodes, constants, and runtime values in their real and quantized forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fastcpu.errors import GraphError
from fastcpu.export.forms import Form
from fastcpu.graph.ir import Graph, Node, Tensor

Array = NDArray[Any]

_INT64 = onnx.TensorProto.INT64

MASKED = -1e4
"""Added to the scores of padding: exp gives exactly 0, and graph optimizers know the value."""


class Emitter:
    """A growing ONNX graph.

    Of a runtime value ``real`` gives the name of its f32 array [batch, sequence, channels] (or [batch, channels]), and
    ``codes`` that of its u8 array where the form of the file quantizes it.
    """

    def __init__(self, graph: Graph, form: Form) -> None:
        self.graph = graph
        self.form = form
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self.inputs = {item.role: item.name for item in graph.inputs}
        self._taken = {item.name for item in graph.inputs} | {item.name for item in graph.outputs}
        self._real: dict[str, str] = {}
        self._codes: dict[str, str] = {}
        self._token_scale: dict[str, str] = {}
        self._once: dict[str, str] = {}
        # The u8 values that linears multiply: what form matmulinteger quantizes.
        self._multiplied = {node.inputs[0] for node in graph.nodes if node.op == "linear"}

    # ---- nodes and constants ----

    def _name(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}.{count}"
        self._taken.add(name)
        return name

    def op(self, kind: str, inputs: Sequence[str], name: str, output: str | None = None, **attrs: Any) -> str:
        """Append a node and return the name of its output."""
        output = self._name(name) if output is None else output
        self.nodes.append(helper.make_node(kind, list(inputs), [output], f"{output}/{kind}", **attrs))
        return output

    def constant(self, name: str, data: Array) -> str:
        """An initializer. One that was stored before under this name, with the same contents, is used again."""
        proto = numpy_helper.from_array(np.ascontiguousarray(data).reshape(data.shape), name)
        if name in self.constants and self.constants[name].SerializeToString() == proto.SerializeToString():
            return name
        proto.name = self._name(name)
        self.constants[proto.name] = proto
        return proto.name

    def f32(self, number: float) -> str:
        return self.constant(f"const.{np.float32(number)}", np.asarray(number, np.float32))

    def i64(self, *numbers: int) -> str:
        return self.constant(f"const.[{','.join(map(str, numbers))}]", np.asarray(numbers, np.int64))

    def scalar(self, number: int) -> str:
        return self.constant(f"const.{number}", np.asarray(number, np.int64))

    def u8(self, number: int) -> str:
        return self.constant(f"const.u8.{number}", np.asarray(number, np.uint8))

    # ---- what several ops share ----

    def mask(self) -> str:
        """The mask as f32 [batch, sequence]."""
        if "mask" not in self._once:
            self._once["mask"] = self.op("Cast", [self.inputs["mask"]], "mask", to=onnx.TensorProto.FLOAT)
        return self._once["mask"]

    def columns(self) -> str:
        """The number of every column: int64 [sequence]."""
        if "columns" not in self._once:
            shape = self.op("Shape", [self.inputs["ids"]], "shape")
            length = self.op("Gather", [shape, self.scalar(1)], "sequence_length")
            self._once["columns"] = self.op("Range", [self.scalar(0), length, self.scalar(1)], "steps")
        return self._once["columns"]

    def positions(self) -> str:
        """The column of every token: int64 [1, sequence]."""
        if "positions" not in self._once:
            self._once["positions"] = self.op("Unsqueeze", [self.columns(), self.i64(0)], "positions")
        return self._once["positions"]

    def counted_positions(self, padding_id: int) -> str:
        """The number of every token, from 1, among those that are not padding, which get 0: int64 [batch, sequence]."""
        padding = self.op("Equal", [self.inputs["ids"], self.scalar(padding_id)], "positions.padding")
        others = self.op("Cast", [self.op("Not", [padding], "positions.not")], "positions.others", to=_INT64)
        count = self.op("CumSum", [others, self.scalar(1)], "positions.count")
        return self.op("Mul", [count, others], "positions")

    def position_bias(self, table: Tensor) -> str:
        """The bias of attention, [heads, 2 reach + 1] by distance, as f32 [heads, sequence, sequence]."""
        key = f"bias of {table.name}"
        if key not in self._once:
            reach = table.data.shape[1] // 2
            query, other = (self.op("Unsqueeze", [self.columns(), self.i64(axis)], "distance.part") for axis in (1, 0))
            distance = self.op("Sub", [other, query], "distance")
            near = self.op("Clip", [distance, self.scalar(-reach), self.scalar(reach)], "distance.near")
            index = self.op("Add", [near, self.scalar(reach)], "distance.index")
            self._once[key] = self.op("Gather", [self.constant(table.name, table.data), index], "position_bias", axis=1)
        return self._once[key]

    def attention_bias(self, causal: bool) -> str:
        """What is added to scores: f32, broadcasts to [batch, heads, sequence, sequence]."""
        if "bias" not in self._once:
            rows = self.op("Unsqueeze", [self.inputs["mask"], self.i64(1)], "mask.rows")
            wide = self.op("Unsqueeze", [rows, self.i64(2)], "mask.wide")
            real = self.op("Cast", [wide], "mask.f32", to=onnx.TensorProto.FLOAT)
            inverted = self.op("Sub", [self.f32(1), real], "mask.inverted")
            self._once["bias"] = self.op("Mul", [inverted, self.f32(MASKED)], "mask.bias")
        if not causal:
            return self._once["bias"]
        if "causal" not in self._once:
            query = self.op("Unsqueeze", [self.positions(), self.i64(2)], "causal.query")
            key = self.op("Unsqueeze", [self.positions(), self.i64(1)], "causal.key")
            later = self.op("Cast", [self.op("Less", [query, key], "causal.later")], "causal.f32", to=1)
            bias = self.op("Mul", [later, self.f32(MASKED)], "causal.bias")
            self._once["causal"] = self.op("Add", [self._once["bias"], bias], "mask.causal")
        return self._once["causal"]

    # ---- values ----

    def real(self, value: str) -> str:
        """The f32 array of a value (int64 of token arrays), dequantized where only its codes exist."""
        if value not in self._real:
            codes, (scale, zero_point) = self._codes[value], self.grid(value)
            self._real[value] = self._dequantize(codes, scale, zero_point, value)
        return self._real[value]

    def codes(self, value: str) -> str:
        return self._codes[value]

    def token_scale(self, value: str) -> str:
        """The f32 scale [batch, sequence, 1] of a dynamically quantized value."""
        return self._token_scale[value]

    def bind(self, value: str, name: str) -> None:
        """``name`` is the array of a value that is not quantized."""
        self._real[value] = name

    def write(self, value: str, real: str) -> None:
        """``value`` is ``real``, quantized as the graph and the form say."""
        described = self.graph.values[value]
        needed = self.form == "qdq" or (self.form == "matmulinteger" and value in self._multiplied)
        if described.dtype != "u8" or not needed:
            self._real[value] = real
        elif described.dynamic_scale is not None:
            if self.form == "qdq":
                raise GraphError(f"value '{value}' is quantized per token at run time, which QDQ cannot express")
            self._quantize_dynamic(value, real)
        else:
            self._codes[value] = self.op("QuantizeLinear", [real, *self.grid(value)], f"{value}.codes", axis=-1)

    def grid(self, value: str) -> tuple[str, str]:
        """Constants with the scale and zero point of a statically quantized value."""
        described = self.graph.values[value]
        quantization = described.quantization
        if quantization is None:
            raise GraphError(f"value '{value}' has no scale")
        if not quantization.groups:
            return self.f32(quantization.scale), self.u8(quantization.zero_point)
        starts = [first for first, _, _ in quantization.groups]
        counts = np.diff([*starts, described.channels])
        scales = np.repeat(np.array([scale for _, scale, _ in quantization.groups], np.float32), counts)
        zero_points = np.repeat(np.array([zero for _, _, zero in quantization.groups], np.uint8), counts)
        return self.constant(f"{value}.scale", scales), self.constant(f"{value}.zero_point", zero_points)

    def _dequantize(self, codes: str, scale: str, zero_point: str, name: str) -> str:
        return self.op("DequantizeLinear", [codes, scale, zero_point], f"{name}.real", axis=-1)

    def fake_quant(self, real: str, scale: float, zero_point: int, name: str) -> str:
        """A quantization point in form qdq; the others leave out what no linear multiplies."""
        if self.form != "qdq":
            return real
        codes = self.op("QuantizeLinear", [real, self.f32(scale), self.u8(zero_point)], f"{name}.codes")
        return self._dequantize(codes, self.f32(scale), self.u8(zero_point), name)

    def _quantize_dynamic(self, value: str, real: str) -> None:
        """Per token: scale = max |x| / 127, codes = 128 + rint(x / scale)."""
        size = self.op("ReduceMax", [self.op("Abs", [real], f"{value}.abs")], f"{value}.max", axes=[-1], keepdims=1)
        positive = self.op("Max", [size, self.f32(1e-30)], f"{value}.positive")
        scale = self.op("Div", [positive, self.f32(127)], f"{value}.scale")
        steps = self.op("Round", [self.op("Div", [real, scale], f"{value}.scaled")], f"{value}.steps")
        shifted = self.op("Add", [steps, self.f32(128)], f"{value}.shifted")
        self._codes[value] = self.op("Cast", [shifted], f"{value}.codes", to=onnx.TensorProto.UINT8)
        self._token_scale[value] = scale

    # ---- tensors ----

    def tensor(self, node: Node, role: str) -> Tensor:
        return self.graph.tensors[node.tensors[role]]

    def f32_tensor(self, node: Node, role: str) -> str:
        """A constant with the real numbers of a tensor, dequantized, in its own shape."""
        tensor = self.tensor(node, role)
        return self.constant(tensor.name, dequantized(tensor))


def dequantized(tensor: Tensor) -> NDArray[np.float32]:
    """The real numbers that a tensor stands for; zeros stay zeros."""
    data = tensor.data.astype(np.float32)
    if tensor.scale is not None:
        data *= tensor.scale.reshape(-1, *[1] * (data.ndim - 1))
    return data
