"""Emits runtime ops into a graph, each value with the space and channels that docs/format.md asks for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from fastcpu.errors import GraphError
from fastcpu.frontend.symbols import Activation, Array, Constant, Grid, PositionBias
from fastcpu.graph.ir import DType, Graph, GraphInput, GraphOutput, Node, Quantization, Space, Tensor, Value

LOGIT_FILL = -1e4
"""What padding tokens get in an output that a linear writes; hidden states get 0."""


class Builder:
    """A growing graph. Methods take and give ``Activation`` symbols; what is asked for twice is emitted once."""

    def __init__(self, name: str) -> None:
        self.graph = Graph(name)
        self._names: set[str] = set()
        self._unpad: dict[str, str] = {}
        self._emitted: dict[tuple[str, Grid | str], str] = {}
        self._without_bias: dict[str, Node] = {}
        self._stored: dict[tuple[tuple[int, ...], str, bytes], str] = {}
        self._padding_id: int | None = None
        self.longest: int | None = None
        """How many tokens the position tables allow; None without any."""

    @classmethod
    def extend(cls, graph: Graph) -> Builder:
        """A builder that appends to a finished graph."""
        builder = cls(graph.name)
        builder.graph = graph
        builder._names = {*graph.values, *(node.name for node in graph.nodes)}
        return builder

    def unique(self, name: str) -> str:
        """``name``, or ``name.1``, ``name.2``, ... where it is taken."""
        candidate, count = name, 0
        while candidate in self._names:
            count += 1
            candidate = f"{name}.{count}"
        self._names.add(candidate)
        return candidate

    def value(self, name: str, space: Space, channels: int, dtype: DType = "f32", grid: Grid | None = None) -> str:
        """Register a value under a free name like ``name``, which is returned; a u8 value has a ``grid``."""
        quantization = None if grid is None else Quantization(grid.scale, grid.zero_point)
        return self.graph.add_value(Value(self.unique(name), dtype, space, channels, quantization))

    def tensor(self, name: str, data: Array, origin: str, scale: Array | None = None) -> str:
        """Store a constant; NaN or Inf in it is a GraphError that names ``origin``, the array's name in the file."""
        for part in (data, scale):
            if part is not None and part.dtype.kind == "f" and not np.isfinite(part).all():
                raise GraphError(f"weight '{origin}' contains NaN or infinite values")
        data = np.ascontiguousarray(data, np.float32 if data.dtype.kind == "f" else data.dtype)
        scales = None if scale is None else np.ascontiguousarray(scale, np.float32)
        name = name if name not in self.graph.tensors else self.unique(f"{name}.copy")
        return self.graph.add_tensor(Tensor(name, data, scales))

    def _shared(self, name: str, data: Array, origin: str, scale: Array | None = None) -> str:
        """Store a matrix, or find one with the same contents: a decoder may be tied to a table, layers alike."""
        data = np.ascontiguousarray(data, np.int8 if scale is not None else np.float32)
        parts = [data] if scale is None else [data, np.ascontiguousarray(scale, np.float32)]
        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            digest.update(part.data)
        key = (data.shape, str(data.dtype), digest.digest())
        if key not in self._stored:
            self._stored[key] = self.tensor(name, data, origin, scale)
        return self._stored[key]

    def node(
        self,
        op: str,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        tensors: dict[str, str] | None = None,
        **attrs: Any,
    ) -> Node:
        """Append a node: ``inputs`` and ``outputs`` name values, ``tensors`` maps roles to names."""
        node = Node(op, name, list(inputs), list(outputs), tensors or {}, attrs)
        self.graph.nodes.append(node)
        return node

    # ---- inputs and outputs ----

    def unpad(self, inputs: Sequence[GraphInput]) -> None:
        """Start the graph: the token values ``ids``, ``positions`` and, where there are types, ``types``."""
        by_role = {graph_input.role: graph_input for graph_input in inputs}
        self.graph.inputs = list(inputs)
        outputs = {"ids": "ids", "positions": "positions"} | ({"types": "types"} if "types" in by_role else {})
        self._unpad = {key: self.value(name, "tokens", 1, "s32") for key, name in outputs.items()}
        sources = [by_role[role].name for role in ("ids", "mask", "types") if role in by_role]
        self.node("unpad", self.unique("unpad"), sources, list(self._unpad.values()))

    def number_positions(self, padding_id: int | None, rows: int) -> bool:
        """Say how the positions that index a table of ``rows`` are counted; False if others are counted differently.

        Each is the column of its token, or, with the id of a padding token, its number among the other tokens.
        """
        if self.longest is not None and padding_id != self._padding_id:
            return False
        self._padding_id = padding_id
        longest = rows if padding_id is None else rows - 1
        self.longest = longest if self.longest is None else min(longest, self.longest)
        if padding_id is not None:
            self.graph.nodes[0].attrs["padding_id"] = padding_id
        return True

    def output(self, name: str, source: Activation, begin: int, end: int, squeeze: bool) -> None:
        """Hand channels ``begin`` to ``end`` to the caller under ``name``."""
        channels: tuple[str | int, ...] = () if squeeze else (end - begin,)
        tokens = source.space == "tokens"
        value = self.value(name, "output", end - begin)
        fill = LOGIT_FILL if tokens and self._is_linear(source.value) else 0.0
        node = self.node("repad", self.unique(f"{name}.repad"), [source.value], [value])
        node.attrs = {"begin": begin, "end": end, "squeeze": squeeze, "fill": fill}
        dims = ("batch", "sequence", *channels) if tokens else ("batch", *channels)
        self.graph.outputs.append(GraphOutput(name, value, dims))

    def _is_linear(self, value: str) -> bool:
        """True for what a linear wrote, quantization points or not."""
        producer = self.graph.producer(value)
        while producer is not None and producer.op == "fake_quant":
            producer = self.graph.producer(producer.inputs[0])
        return producer is not None and producer.op == "linear"

    # ---- ops ----

    def embedding(self, name: str, terms: Sequence[tuple[str, Array, str, Array | None]], channels: int) -> Activation:
        """The sum of rows of ``terms``: (token value, table, name of the table in the file, scale per row if s8)."""
        name = self.unique(name)
        tables = {
            f"table{i}": self._shared(origin, table, origin, scale) for i, (_, table, origin, scale) in enumerate(terms)
        }
        value = self.value(f"{name}.out", "tokens", channels)
        self.node("embedding", name, [self._unpad[key] for key, *_ in terms], [value], tables)
        return Activation(value, "tokens", channels)

    def layernorm(self, name: str, x: Activation, gamma: Constant, beta: Constant, epsilon: float) -> Activation:
        """``x`` normalized over its C channels, f32; ``gamma`` and ``beta`` [C]; ``epsilon`` joins the variance."""
        name = self.unique(name)
        tensors = {
            "gamma": self.tensor(f"{name}.gamma", gamma.array.reshape(-1), gamma.name),
            "beta": self.tensor(f"{name}.beta", beta.array.reshape(-1), beta.name),
        }
        value = self.value(f"{name}.out", x.space, x.channels)
        self.node("layernorm", name, [self.f32(x).value], [value], tensors, epsilon=epsilon, residual=False)
        return replace(x, value=value, grid=None)

    def linear(
        self, name: str, x: Activation, weight: Array, origin: str, scale: Array | None = None, dynamic: bool = False
    ) -> Activation:
        """``weight`` is [N, K]: f32, or s8 with ``scale`` [N] for an input with a grid. No bias until ``add_bias``.

        With ``dynamic``, an input without a grid is quantized with a scale per token.
        """
        name = self.unique(name)
        outputs = weight.shape[0]
        tensors = {
            "weight": self._shared(f"{name}.weight", weight, origin, scale),
            "bias": self.tensor(f"{name}.bias", np.zeros(outputs, np.float32), origin),
        }
        value = self.value(f"{name}.product", x.space, outputs)
        sources = self.dynamic(x) if dynamic else [self.f32(x).value if scale is None else self.u8(x)]
        self._without_bias[value] = self.node("linear", name, sources, [value], tensors, activation="none")
        return Activation(value, x.space, outputs)

    def add_bias(self, x: Activation, bias: Constant) -> Activation | None:
        """Give the linear behind ``x`` its bias, or add it behind a quantization point; None when ``x`` is neither."""
        if x.grid is not None:
            return self._fake_quant(x, bias)
        linear = self._without_bias.get(x.value)
        if linear is None or next(self.graph.consumers(x.value), None) is not None:
            return None
        del self.graph.tensors[linear.tensors["bias"]]
        self.tensor(linear.tensors["bias"], bias.array.reshape(-1), bias.name)
        return self._biased(x, linear)

    def add_integer_bias(self, x: Activation, bias: Constant, data: Array) -> Activation:
        """Give the u8 linear behind ``x`` an s32 bias in units of its accumulator."""
        linear = self._without_bias[x.value]
        linear.tensors["bias_s32"] = self.tensor(f"{linear.name}.bias_s32", data.astype(np.int32), bias.name)
        return self._biased(x, linear)

    def _biased(self, x: Activation, linear: Node) -> Activation:
        """The product under a new name: whatever would still read it without its bias is caught by the verifier."""
        del self._without_bias[x.value], self.graph.values[x.value]
        value = self.value(f"{linear.name}.out", x.space, x.channels)
        linear.outputs = [value]
        return replace(x, value=value)

    def pointwise(self, name: str, function: Literal["relu", "gelu", "gelu_tanh", "tanh"], x: Activation) -> Activation:
        """``function`` of every element: f32, space and channels of ``x``."""
        name = self.unique(name)
        value = self.value(f"{name}.out", x.space, x.channels)
        self.node("pointwise", name, [self.f32(x).value], [value], function=function)
        return replace(x, value=value, grid=None)

    def add(self, name: str, a: Activation, b: Activation) -> Activation:
        """``a + b``, both f32 of one space and number of channels."""
        name = self.unique(name)
        value = self.value(f"{name}.out", a.space, a.channels)
        self.node("add", name, [self.f32(a).value, self.f32(b).value], [value])
        return replace(a, value=value, grid=None)

    def attention(
        self, op: str, name: str, inputs: Sequence[str], channels: int, bias: PositionBias | None, **attrs: Any
    ) -> Activation:
        """``op`` (``attention`` or ``attention_qdq``) of the f32 values q, k and v per token, with its attributes.

        ``channels`` is heads x head_dim of the f32 result.
        """
        name = self.unique(name)
        value = self.value(f"{name}.out", "tokens", channels)
        tensors = {} if bias is None else {"bias": self._shared(f"{name}.bias", bias.table, bias.name)}
        self.node(op, name, inputs, [value], tensors, **attrs)
        return Activation(value, "tokens", channels)

    def pool(self, mode: Literal["cls", "mean", "max"], x: Activation) -> Activation:
        """One f32 vector per sequence: the first token of ``x``, or the mean or maximum over its real tokens."""
        source = self.f32(x)
        key = (source.value, f"pool.{mode}")
        if key not in self._emitted:
            name = self.unique(f"pool.{mode}")
            value = self.value(f"{name}.out", "sequences", x.channels)
            self.node("pool", name, [source.value], [value], mode=mode)
            self._emitted[key] = value
        return Activation(self._emitted[key], "sequences", x.channels)

    def dense(
        self, name: str, x: Activation, weight: Array, bias: Array, activation: Literal["none", "tanh"]
    ) -> Activation:
        """activation(x W^T + b) with weights f32 [N, K] and [N]."""
        name = self.unique(name)
        tensors = {
            "weight": self.tensor(f"{name}.weight", weight, name),
            "bias": self.tensor(f"{name}.bias", bias, name),
        }
        value = self.value(f"{name}.out", x.space, weight.shape[0])
        self.node("linear", name, [self.f32(x).value], [value], tensors, activation=activation)
        return Activation(value, x.space, weight.shape[0])

    def l2norm(self, x: Activation) -> Activation:
        """Every token or sequence of ``x`` divided by the Euclidean length of its channels; f32."""
        name = self.unique("l2norm")
        value = self.value(f"{name}.out", x.space, x.channels)
        self.node("l2norm", name, [self.f32(x).value], [value])
        return replace(x, value=value, grid=None)

    # ---- quantization points ----

    def f32(self, x: Activation) -> Activation:
        """``x`` with its grid applied."""
        if x.grid is None:
            return x
        key = (x.value, x.grid)
        if key not in self._emitted:
            self._emitted[key] = self._fake_quant(x, None).value
        return Activation(self._emitted[key], x.space, x.channels)

    def u8(self, x: Activation) -> str:
        """The u8 value that holds ``x`` on its grid."""
        if x.grid is None:
            raise ValueError(f"{x.value} has no grid")
        key = (f"{x.value}.u8", x.grid)
        if key not in self._emitted:
            name = self.unique(f"{x.value}.quantize")
            value = self.value(f"{x.value}.u8", x.space, x.channels, "u8", x.grid)
            self.node("quantize", name, [x.value], [value])
            self._emitted[key] = value
        return self._emitted[key]

    def dynamic(self, x: Activation) -> list[str]:
        """The u8 value of ``x`` with a scale per token, and the f32 value of these scales."""
        key = (x.value, "quantize.dynamic")
        if key not in self._emitted:
            scale = self.value(f"{x.value}.scale", x.space, 1)
            codes = Value(self.unique(f"{x.value}.u8"), "u8", x.space, x.channels, dynamic_scale=scale)
            self._emitted[key] = self.graph.add_value(codes)
            self.node("quantize", self.unique(f"{x.value}.quantize"), [x.value], [codes.name, scale])
        codes = self.graph.values[self._emitted[key]]
        assert codes.dynamic_scale is not None, codes.name
        return [codes.name, codes.dynamic_scale]

    def _fake_quant(self, x: Activation, bias: Constant | None) -> Activation:
        if x.grid is None:
            raise ValueError(f"{x.value} has no grid")
        name = self.unique(f"{x.value.removesuffix('.out')}.fake_quant")
        tensors = {} if bias is None else {"bias": self.tensor(f"{name}.bias", bias.array.reshape(-1), bias.name)}
        value = self.value(f"{name}.out", x.space, x.channels)
        self.node("fake_quant", name, [x.value], [value], tensors, scale=x.grid.scale, zero_point=x.grid.zero_point)
        return Activation(value, x.space, x.channels)
