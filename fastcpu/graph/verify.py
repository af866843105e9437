"""Checks a graph against the op table of docs/format.md: names, order, spaces, dtypes, shapes and attributes."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from fastcpu.errors import GraphError
from fastcpu.graph.ir import Graph, Node, Tensor, Value

ACTIVATIONS = ("none", "relu", "gelu", "tanh", "table")
FUNCTIONS = ("relu", "gelu", "tanh")
POOLS = ("cls", "mean", "max")
MAX_K = 32768
"""Longest sum of u8 x s8 products that cannot overflow s32."""
GRID_ROLES = ("q", "k", "v", "score", "probability")

_STORAGE = {"f": "f32", "i1": "s8", "u1": "u8", "i4": "s32"}


class _Check:
    """One node with everything a rule asks about it; every complaint names the node."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph = graph
        self.node = node
        self.inputs = [] if node.op == "unpad" else [graph.values[name] for name in node.inputs]
        self.outputs = [graph.values[name] for name in node.outputs]

    def fail(self, message: str) -> NoReturn:
        raise GraphError(f"{self.node.op} '{self.node.name}': {message}")

    def counts(self, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        for what, names, allowed in (("inputs", self.node.inputs, inputs), ("outputs", self.node.outputs, outputs)):
            if len(names) not in allowed:
                self.fail(f"{len(names)} {what}; {' or '.join(map(str, allowed))} expected")

    def expect(
        self, value: Value, dtypes: tuple[str, ...], spaces: tuple[str, ...], channels: int | None = None
    ) -> None:
        if value.dtype not in dtypes:
            self.fail(f"value '{value.name}' is {value.dtype}; {' or '.join(dtypes)} expected")
        if value.space not in spaces:
            self.fail(f"value '{value.name}' is in space {value.space}; {' or '.join(spaces)} expected")
        if channels is not None and value.channels != channels:
            self.fail(f"value '{value.name}' has {value.channels} channels; {channels} expected")

    def tensors(self, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
        for role in required:
            if role not in self.node.tensors:
                self.fail(f"tensor '{role}' is missing")
        for role in self.node.tensors:
            if role not in required and role not in optional:
                self.fail(f"no tensor '{role}' is known")

    def tensor(self, role: str, storages: tuple[str, ...], shape: tuple[int | None, ...]) -> Tensor:
        tensor = self.graph.tensors[self.node.tensors[role]]
        found = storage(tensor)
        if found not in storages:
            self.fail(f"tensor '{role}' is {found}; {' or '.join(storages)} expected")
        actual = tensor.data.shape
        if len(actual) != len(shape) or any(b is not None and a != b for a, b in zip(actual, shape, strict=True)):
            expected = ", ".join("any" if n is None else str(n) for n in shape)
            self.fail(f"tensor '{role}' has shape {list(actual)}; [{expected}] expected")
        return tensor

    def attr(
        self, name: str, kind: type | tuple[type, ...], choices: tuple[Any, ...] | None = None, default: Any = None
    ) -> Any:
        value = self.node.attrs.get(name, default)
        if value is None:
            self.fail(f"attribute '{name}' is missing")
        wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        if wrong or (isinstance(value, float) and not math.isfinite(value)):
            self.fail(f"attribute '{name}' is {value!r}")
        if choices is not None and value not in choices:
            self.fail(f"attribute '{name}' is {value!r}; one of {', '.join(map(str, choices))} expected")
        return value

    def attributes(self, *known: str) -> None:
        for name in self.node.attrs:
            if name not in known:
                self.fail(f"no attribute '{name}' is known")

    def grid(self, scale_name: str, zero_point_name: str) -> None:
        scale = self.attr(scale_name, (float, int))
        zero_point = self.attr(zero_point_name, int)
        if scale <= 0 or not 0 <= zero_point <= 255:
            self.fail(
                f"{scale_name} = {scale}, {zero_point_name} = {zero_point}: a scale > 0, a u8 zero point expected"
            )

    def quantized_outputs(self, values: list[Value], space: str, channels: int) -> None:
        """A u8 output, and behind it the scale per token when the u8 output is dynamic."""
        if not values:
            return
        self.expect(values[0], ("u8",), (space,), channels)
        dynamic = values[0].dynamic_scale
        if (dynamic is not None) != (len(values) == 2) or (dynamic is not None and values[1].name != dynamic):
            self.fail(f"value '{values[0].name}' and the outputs disagree about a scale per token")
        if len(values) == 2:
            self.expect(values[1], ("f32",), (space,), 1)


def storage(tensor: Tensor) -> str:
    """f32, s8, u8 or s32."""
    dtype = tensor.data.dtype
    name = _STORAGE.get(dtype.kind if dtype == np.float32 else dtype.str[1:])
    if name is None:
        raise GraphError(f"tensor '{tensor.name}' has dtype {dtype}; f32, s8, u8 or s32 expected")
    return name


# ---- one rule per op ----


def _unpad(c: _Check) -> None:
    roles = [{i.name: i.role for i in c.graph.inputs}.get(name) for name in c.node.inputs]
    if roles not in (["ids", "mask"], ["ids", "mask", "types"]):
        c.fail(f"its inputs have roles {roles}; ids, mask and perhaps types expected")
    c.counts((2, 3), (len(roles),))
    for value in c.outputs:
        c.expect(value, ("s32",), ("tokens",), 1)
    c.tensors(())
    c.attributes()


def _embedding(c: _Check) -> None:
    c.counts(tuple(range(1, 9)), (1,))
    c.expect(c.outputs[0], ("f32",), ("tokens",))
    c.tensors(tuple(f"table{i}" for i in range(len(c.inputs))))
    c.attributes()
    for i, value in enumerate(c.inputs):
        c.expect(value, ("s32",), ("tokens",), 1)
        c.tensor(f"table{i}", ("s8", "f32"), (None, c.outputs[0].channels))


def _layernorm(c: _Check) -> None:
    residual = c.attr("residual", bool, default=False)
    c.counts((2,) if residual else (1,), (1, 2, 3))
    c.attributes("epsilon", "residual")
    space, channels = c.outputs[0].space, c.outputs[0].channels
    for value in (*c.inputs, c.outputs[0]):
        c.expect(value, ("f32",), ("tokens", "sequences") if value is c.outputs[0] else (space,), channels)
    c.quantized_outputs(c.outputs[1:], space, channels)
    c.tensors(("gamma", "beta"))
    c.tensor("gamma", ("f32",), (channels,))
    c.tensor("beta", ("f32",), (channels,))
    if c.attr("epsilon", float) <= 0:
        c.fail("epsilon is not positive")


def _linear(c: _Check) -> None:
    dynamic = bool(c.inputs) and c.inputs[0].dynamic_scale is not None
    c.counts((2,) if dynamic else (1,), (1,))
    x, y = c.inputs[0], c.outputs[0]
    c.expect(x, ("u8", "f32"), ("tokens", "sequences"))
    c.expect(y, ("u8", "f32"), (x.space,))
    if dynamic and c.inputs[1].name != x.dynamic_scale:
        c.fail(f"value '{c.inputs[1].name}' is not the scale of '{x.name}'")
    activation = c.attr("activation", str, ACTIVATIONS, default="none")
    c.attributes("activation", "table_scale", "table_zero_point")
    c.tensors(("weight", "bias"), ("bias_s32", "table"))
    c.tensor("weight", ("s8",) if x.dtype == "u8" else ("f32",), (y.channels, x.channels))
    c.tensor("bias", ("f32",), (y.channels,))
    if x.channels > MAX_K:
        c.fail(f"{x.channels} input channels; at most {MAX_K}")
    if "bias_s32" in c.node.tensors:
        c.tensor("bias_s32", ("s32",), (y.channels,))
    if ("table" in c.node.tensors) != (activation == "table"):
        c.fail(f"activation {activation} {'with' if 'table' in c.node.tensors else 'without'} a table")
    if activation == "table":
        c.tensor("table", ("u8",), (256,))
        c.grid("table_scale", "table_zero_point")
    if y.dtype == "u8" and (
        dynamic or x.dtype != "u8" or activation not in ("none", "table") or y.dynamic_scale is not None
    ):
        c.fail(f"a u8 output needs a static u8 input and activation none or table, not {activation}")
    if y.dtype == "f32" and activation == "table":
        c.fail("a table gives a u8 output")


def _attention_values(c: _Check, dtypes: tuple[str, ...]) -> None:
    c.counts((1, 3), (1,))
    heads, head_dim = c.attr("heads", int), c.attr("head_dim", int)
    kv_heads = c.attr("kv_heads", int, default=heads)
    if heads < 1 or head_dim < 1 or kv_heads < 1 or heads % kv_heads:
        c.fail(f"{heads} heads and {kv_heads} of keys and values, of {head_dim} channels each")
    parts = c.inputs if len(c.inputs) == 3 else c.inputs * 3
    for value, role, count in zip(parts, "qkv", (heads, kv_heads, kv_heads), strict=True):
        c.expect(value, dtypes, ("tokens",))
        offset = c.attr(f"{role}_offset", int, default=0)
        if offset < 0 or offset + count * head_dim > value.channels:
            c.fail(f"channels {offset} to {offset + count * head_dim} of '{value.name}', which has {value.channels}")
    c.expect(c.outputs[0], ("f32", "u8"), ("tokens",), heads * head_dim)
    c.attr("scale", (float, int))


def _attention(c: _Check) -> None:
    _attention_values(c, ("u8", "f32"))
    merged = ("q_scale", "q_zero_point", "k_scale", "v_scale")
    c.attributes("heads", "kv_heads", "head_dim", "q_offset", "k_offset", "v_offset", "scale", "causal", *merged)
    dtypes = {value.dtype for value in c.inputs}
    if len(dtypes) != 1:
        c.fail("q, k and v have different dtypes")
    if dtypes == {"f32"} and c.outputs[0].dtype != "f32":
        c.fail("a u8 output needs u8 inputs")
    c.attr("causal", bool, default=False)
    if dtypes != {"u8"}:
        return
    grouped = [value for value in c.inputs if value.quantization is not None and value.quantization.groups]
    if grouped and any(name not in c.node.attrs for name in merged):
        c.fail(f"value '{grouped[0].name}' has a scale per group: attributes {', '.join(merged)} expected")
    if not grouped and len(c.inputs) == 3:
        for value in c.inputs[1:]:
            if value.quantization is None or value.quantization.zero_point != 128:
                c.fail(f"value '{value.name}' is a key or value: a static scale and zero point 128 expected")


def _attention_qdq(c: _Check) -> None:
    _attention_values(c, ("f32",))
    c.expect(c.outputs[0], ("f32",), ("tokens",))
    grids = [f"{role}_{part}" for role in GRID_ROLES for part in ("scale", "zero_point")]
    c.attributes(
        "heads", "kv_heads", "head_dim", "q_offset", "k_offset", "v_offset", "scale", "q_factor", "k_factor", *grids
    )
    c.attr("q_factor", (float, int))
    c.attr("k_factor", (float, int))
    for role in GRID_ROLES:
        if f"{role}_scale" in c.node.attrs or f"{role}_zero_point" in c.node.attrs:
            c.grid(f"{role}_scale", f"{role}_zero_point")


def _quantize(c: _Check) -> None:
    c.counts((1,), (1, 2))
    x = c.inputs[0]
    c.expect(x, ("f32",), ("tokens", "sequences"))
    c.quantized_outputs(c.outputs, x.space, x.channels)
    c.tensors(())
    c.attributes()


def _elementwise(c: _Check, inputs: int) -> None:
    c.counts((inputs,), (1,))
    y = c.outputs[0]
    c.expect(y, ("f32",), ("tokens", "sequences"))
    for value in c.inputs:
        c.expect(value, ("f32",), (y.space,), y.channels)


def _pointwise(c: _Check) -> None:
    _elementwise(c, 1)
    c.tensors(())
    c.attributes("function")
    c.attr("function", str, FUNCTIONS)


def _add(c: _Check) -> None:
    _elementwise(c, 2)
    c.tensors(())
    c.attributes()


def _fake_quant(c: _Check) -> None:
    _elementwise(c, 1)
    c.tensors((), ("bias",))
    c.attributes("scale", "zero_point")
    c.grid("scale", "zero_point")
    if "bias" in c.node.tensors:
        c.tensor("bias", ("f32",), (c.outputs[0].channels,))


def _pool(c: _Check) -> None:
    c.counts((1,), (1,))
    c.expect(c.inputs[0], ("f32",), ("tokens",))
    c.expect(c.outputs[0], ("f32",), ("sequences",), c.inputs[0].channels)
    c.tensors(())
    c.attributes("mode")
    c.attr("mode", str, POOLS)


def _l2norm(c: _Check) -> None:
    _elementwise(c, 1)
    c.tensors(())
    c.attributes()


def _repad(c: _Check) -> None:
    c.counts((1,), (1,))
    x = c.inputs[0]
    c.expect(x, ("f32",), ("tokens", "sequences"))
    c.attributes("begin", "end", "squeeze", "fill")
    begin, end = c.attr("begin", int, default=0), c.attr("end", int, default=x.channels)
    if not 0 <= begin < end <= x.channels:
        c.fail(f"channels {begin} to {end} of '{x.name}', which has {x.channels}")
    c.expect(c.outputs[0], ("f32",), ("output",), end - begin)
    c.tensors(())
    if c.attr("squeeze", bool, default=False) and end - begin != 1:
        c.fail(f"squeeze drops the axis of one channel, not of {end - begin}")
    c.attr("fill", (float, int), default=0.0)


RULES: dict[str, Callable[[_Check], None]] = {
    "add": _add,
    "attention": _attention,
    "attention_qdq": _attention_qdq,
    "embedding": _embedding,
    "fake_quant": _fake_quant,
    "l2norm": _l2norm,
    "layernorm": _layernorm,
    "linear": _linear,
    "pointwise": _pointwise,
    "pool": _pool,
    "quantize": _quantize,
    "repad": _repad,
    "unpad": _unpad,
}


# ---- values, tensors, the whole ----


def _check_value(graph: Graph, value: Value) -> None:
    where = f"value '{value.name}'"
    if value.channels < 1:
        raise GraphError(f"{where} has {value.channels} channels")
    if value.dtype == "u8":
        if (value.quantization is None) == (value.dynamic_scale is None):
            raise GraphError(f"{where} is u8 and needs either a scale or the name of its scales per token")
        if value.dynamic_scale is not None and value.dynamic_scale not in graph.values:
            raise GraphError(f"{where} has its scales in '{value.dynamic_scale}', which does not exist")
    elif value.quantization is not None or value.dynamic_scale is not None:
        raise GraphError(f"{where} is {value.dtype} and has a scale")
    if value.quantization is None:
        return
    quantization = value.quantization
    groups = quantization.groups or ((0, quantization.scale, quantization.zero_point),)
    starts = [first for first, _, _ in groups]
    if starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= value.channels:
        raise GraphError(f"{where} has groups that start at channels {starts}, of {value.channels}")
    for _, scale, zero_point in groups:
        if not (scale > 0 and math.isfinite(scale)) or not 0 <= zero_point <= 255:
            raise GraphError(f"{where} has scale {scale} and zero point {zero_point}")


def _check_tensor(tensor: Tensor) -> None:
    where = f"tensor '{tensor.name}'"
    kind = storage(tensor)
    if (kind == "s8") != (tensor.scale is not None):
        raise GraphError(f"{where} is {kind} {'with' if tensor.scale is not None else 'without'} a scale per row")
    if tensor.scale is not None:
        if tensor.scale.shape != tensor.data.shape[:1] or tensor.scale.dtype != np.float32:
            shapes = f"{list(tensor.data.shape)} has a scale of shape {list(tensor.scale.shape)}, {tensor.scale.dtype}"
            raise GraphError(f"{where} of shape {shapes}")
        if not np.isfinite(tensor.scale).all():
            raise GraphError(f"{where} has a NaN or infinite scale")
    if kind == "f32" and not np.isfinite(tensor.data).all():
        raise GraphError(f"{where} contains NaN or infinite values")
    blocked = tensor.encoding == "block"
    if blocked and (kind != "s8" or tensor.data.ndim != 2 or tensor.data.shape[0] % 4 or tensor.data.shape[1] > 65536):
        raise GraphError(
            f"{where} is {kind} {list(tensor.data.shape)}: blocks need an s8 matrix whose rows are a multiple of 4"
        )


def _check_node(graph: Graph, node: Node, written: set[str]) -> None:
    where = f"{node.op} '{node.name}'"
    if node.op not in RULES:
        raise GraphError(f"{where}: no such op")
    if node.op != "unpad":
        for name in node.inputs:
            if name not in graph.values:
                raise GraphError(f"{where}: reads '{name}', which does not exist")
            if name not in written:
                raise GraphError(f"{where}: reads '{name}' before it is written")
    for name in node.outputs:
        if name not in graph.values:
            raise GraphError(f"{where}: writes '{name}', which does not exist")
        if name in written:
            raise GraphError(f"{where}: writes '{name}' a second time")
        written.add(name)
    for role, name in node.tensors.items():
        if name not in graph.tensors:
            raise GraphError(f"{where}: tensor '{role}' is '{name}', which does not exist")
    RULES[node.op](_Check(graph, node))


def check(graph: Graph) -> None:
    """GraphError, naming the node, value or tensor and what is expected of it, unless ``graph`` can be executed."""
    roles = [graph_input.role for graph_input in graph.inputs]
    if roles.count("ids") != 1 or roles.count("mask") != 1 or roles.count("types") > 1:
        raise GraphError(
            f"graph '{graph.name}': inputs with roles {roles}; one ids, one mask and at most one types expected"
        )
    for key, item in chain[tuple[str, Value | Tensor]](graph.values.items(), graph.tensors.items()):
        if key != item.name:
            raise GraphError(f"{type(item).__name__.lower()} '{item.name}' is registered as '{key}'")
    for value in graph.values.values():
        _check_value(graph, value)
    for tensor in graph.tensors.values():
        _check_tensor(tensor)
    written: set[str] = set()
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise GraphError(f"{node.op} '{node.name}': another node has this name")
        names.add(node.name)
        _check_node(graph, node, written)
    for value in graph.values.values():
        if value.name not in written:
            raise GraphError(f"value '{value.name}' is never written")
    if not graph.outputs:
        raise GraphError(f"graph '{graph.name}' has no outputs")
    for output in graph.outputs:
        if output.value not in graph.values or graph.values[output.value].space != "output":
            raise GraphError(f"output '{output.name}' is '{output.value}', which is not a value in space output")
