"""Runs a graph of runtime ops (docs/format.md) on the NumPy reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.ir import Graph, Node, Value
from tests.reference import numerics as n
from tests.reference.attention_qdq import attention_qdq
from tests.reference.pointwise import POINTWISE, exp2

Array = NDArray[Any]
Feeds = Mapping[str, Array]


class Ragged:
    """The real tokens of a padded batch: which (row, column) each is, and where each sequence starts."""

    def __init__(self, mask: Array) -> None:
        self.shape = mask.shape
        self.row, self.column = np.nonzero(mask)
        self.lengths = np.bincount(self.row, minlength=mask.shape[0])
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])

    def groups(self) -> Iterator[Array]:
        """Token indices ``[sequences, length]``, one array per distinct length."""
        for length in np.unique(self.lengths):
            if length > 0:
                starts = self.offsets[:-1][self.lengths == length]
                yield starts[:, None] + np.arange(length)


class Run:
    """One execution: ``values`` fills up with ``[channels, tokens or sequences]`` arrays, and the caller's arrays.

    Where values are ``given``, the ops behind them read these, and what was computed in their place is ``replaced``.
    """

    def __init__(
        self, graph: Graph, feeds: Feeds, exact: bool = True, given: Mapping[str, Array] | None = None
    ) -> None:
        self.graph = graph
        self.exact = exact
        self.values: dict[str, Array] = {}
        roles = {graph_input.role: graph_input.name for graph_input in graph.inputs}
        self.ids = np.asarray(feeds[roles["ids"]])
        mask = feeds.get(roles.get("mask", ""))
        types = feeds.get(roles.get("types", ""))
        self.types = np.zeros_like(self.ids) if types is None else np.asarray(types)
        self.ragged = Ragged(np.ones_like(self.ids) if mask is None else np.asarray(mask))
        given = {} if given is None else given
        self.replaced: dict[str, Array] = {}
        for node in graph.nodes:
            results = OPS[node.op](self, node)
            self.values.update(zip(node.outputs, results, strict=True))
            self.replaced |= {name: self.values[name] for name in node.outputs if name in given}
            self.values |= {name: given[name] for name in node.outputs if name in given}

    def value(self, name: str) -> Value:
        return self.graph.values[name]

    def tensor(self, node: Node, role: str) -> Array | None:
        return self.graph.tensors[node.tensors[role]].data if role in node.tensors else None

    def scale_and_zero_point(self, name: str) -> tuple[float, int]:
        quantization = self.value(name).quantization
        if quantization is not None:
            return quantization.scale, quantization.zero_point
        assert self.value(name).dynamic_scale is not None, name
        return 1.0, 128

    def quantized(self, x: Array, outputs: Sequence[str]) -> list[Array]:
        """The u8 output (and its scale per token) of an op that quantizes ``x``; nothing when there is no u8 output."""
        if not outputs:
            return []
        if len(outputs) == 2:
            q, scale = n.quantize_dynamic(x)
            return [q, scale[None, :]]
        return [n.quantize(x, *self.scale_and_zero_point(outputs[0]))]


def _unpad(run: Run, node: Node) -> list[Array]:
    rows, columns = run.ragged.row, run.ragged.column
    ids = run.ids[rows, columns].astype(np.int32)[None]
    positions = columns.astype(np.int32)[None]
    if "padding_id" in node.attrs:
        others = run.ids != node.attrs["padding_id"]
        positions = (np.cumsum(others, axis=1) * others)[rows, columns].astype(np.int32)[None]
    types = run.types[rows, columns].astype(np.int32)[None]
    return [ids, positions, types][: len(node.outputs)]


def _embedding(run: Run, node: Node) -> list[Array]:
    tables = [run.graph.tensors[node.tensors[f"table{i}"]] for i in range(len(node.inputs))]
    return [n.embedding([(t.data, t.scale) for t in tables], [run.values[name][0] for name in node.inputs])]


def _layernorm(run: Run, node: Node) -> list[Array]:
    a, b = run.values[node.inputs[0]], run.values[node.inputs[1]] if node.attrs.get("residual") else None
    gamma, beta = run.tensor(node, "gamma"), run.tensor(node, "beta")
    assert gamma is not None
    assert beta is not None
    y = n.layernorm(a, b, gamma, beta, node.attrs["epsilon"])
    smooth = run.tensor(node, "smooth")
    if smooth is not None:
        return [y, n.quantize(y, *run.scale_and_zero_point(node.outputs[1]), smooth)]
    return [y, *run.quantized(y, node.outputs[1:])]


def _per_channel(value: Value) -> tuple[Any, Any]:
    """Scale and zero point of a u8 value, as arrays over its channels when it has groups."""
    assert value.quantization is not None, value.name
    groups = value.quantization.groups
    if not groups:
        return value.quantization.scale, value.quantization.zero_point
    starts = [first for first, _, _ in groups]
    counts = np.diff([*starts, value.channels])
    return np.repeat([scale for _, scale, _ in groups], counts), np.repeat([zero for _, _, zero in groups], counts)


def _linear(run: Run, node: Node) -> list[Array]:
    x, output = run.values[node.inputs[0]], run.value(node.outputs[0])
    weight = run.graph.tensors[node.tensors["weight"]]
    bias = run.graph.tensors[node.tensors["bias"]].data
    activation = node.attrs.get("activation", "none")
    if run.value(node.inputs[0]).dtype == "f32":
        return [POINTWISE[activation](n.linear_f32(weight.data, x, bias, run.exact))]
    assert weight.scale is not None
    x_scale, x_zero_point = run.scale_and_zero_point(node.inputs[0])
    table = run.tensor(node, "table")
    y_scale: Any = None
    y_zero_point: Any = None
    if table is not None:
        y_scale, y_zero_point = node.attrs["table_scale"], node.attrs["table_zero_point"]
    elif output.dtype == "u8":
        y_scale, y_zero_point = _per_channel(output)
    mul, add = n.linear_constants(weight.scale, bias, x_scale, y_scale, y_zero_point)
    acc = n.accumulate(weight.data, x, x_zero_point, run.tensor(node, "bias_s32"))
    token_scale = run.values[node.inputs[1]][0] if len(node.inputs) > 1 else None
    y = n.epilogue(acc, mul, add, token_scale)
    if output.dtype == "f32":
        return [POINTWISE[activation](y)]
    q = n.to_u8(y, 0)
    return [q if table is None else table[q]]


def _attention(run: Run, node: Node) -> list[Array]:
    attrs = node.attrs
    heads, kv_heads, head_dim = attrs["heads"], attrs.get("kv_heads", attrs["heads"]), attrs["head_dim"]
    parts = []
    for name, role, count in zip(node.inputs, "qkv", (heads, kv_heads, kv_heads), strict=True):
        first = attrs.get(f"{role}_offset", 0)
        part = run.values[name][first : first + count * head_dim].reshape(count, head_dim, -1)
        parts.append(np.repeat(part, heads // count, axis=0))
    output = run.value(node.outputs[0])
    result = np.empty((heads, head_dim, parts[0].shape[-1]), np.uint8 if output.dtype == "u8" else np.float32)
    causal = bool(attrs.get("causal", False))
    table = run.tensor(node, "bias")
    for tokens in run.ragged.groups():
        q, k, v = (part[:, :, tokens].transpose(2, 0, 1, 3) for part in parts)
        bias = (
            None if table is None else n.position_bias(n.f32(np.float64(table) * n.LOG2_E), run.ragged.column[tokens])
        )
        if q.dtype == np.uint8:
            scales = [_role_scale(run, node, name, role) for name, role in zip(node.inputs, "qkv", strict=True)]
            c = n.exponent_scale(attrs["scale"], scales[0][0], scales[1][0])
            ov = float(np.float32(scales[2][0]))
            zero_point = None
            if output.dtype == "u8":
                y_scale, zero_point = run.scale_and_zero_point(node.outputs[0])
                ov /= float(np.float32(y_scale))
            y = n.attention_u8(q, k, v, scales[0][1], c, np.float32(ov), zero_point, causal, exp2, bias)
        else:
            y = n.attention_f32(q, k, v, n.exponent_scale(attrs["scale"]), causal, exp2, run.exact, bias)
        result[:, :, tokens] = y.transpose(1, 2, 0, 3)
    return [result.reshape(heads * head_dim, -1)]


def _role_scale(run: Run, node: Node, name: str, role: str) -> tuple[float, int]:
    if f"{role}_scale" in node.attrs:
        return node.attrs[f"{role}_scale"], node.attrs["q_zero_point"] if role == "q" else 128
    return run.scale_and_zero_point(name)


def _quantize(run: Run, node: Node) -> list[Array]:
    return run.quantized(run.values[node.inputs[0]], node.outputs)


def _pointwise(run: Run, node: Node) -> list[Array]:
    return [POINTWISE[node.attrs["function"]](run.values[node.inputs[0]])]


def _add(run: Run, node: Node) -> list[Array]:
    return [run.values[node.inputs[0]] + run.values[node.inputs[1]]]


def _fake_quant(run: Run, node: Node) -> list[Array]:
    x = run.values[node.inputs[0]]
    return [n.fake_quant(x, node.attrs["scale"], node.attrs["zero_point"], run.tensor(node, "bias"))]


def _pool(run: Run, node: Node) -> list[Array]:
    x, offsets = run.values[node.inputs[0]], run.ragged.offsets
    columns = [n.pool(x[:, begin:end], node.attrs["mode"]) for begin, end in pairwise(offsets)]
    return [np.stack(columns, axis=1)]


def _l2norm(run: Run, node: Node) -> list[Array]:
    return [n.l2norm(run.values[node.inputs[0]])]


def _repad(run: Run, node: Node) -> list[Array]:
    source = node.inputs[0]
    begin, end = node.attrs.get("begin", 0), node.attrs.get("end", run.value(source).channels)
    x = run.values[source][begin:end].T
    if run.value(source).space == "tokens":
        result = np.full((*run.ragged.shape, end - begin), node.attrs.get("fill", 0.0), np.float32)
        result[run.ragged.row, run.ragged.column] = x
    else:
        result = np.ascontiguousarray(x)
    return [result[..., 0] if node.attrs.get("squeeze") else result]


OPS: dict[str, Callable[[Run, Node], list[Array]]] = {
    "add": _add,
    "attention": _attention,
    "attention_qdq": attention_qdq,
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


def run(graph: Graph, feeds: Feeds, exact: bool = True) -> dict[str, Array]:
    """What the runtime's session answers: one array per graph output."""
    values = Run(graph, feeds, exact).values
    return {output.name: values[output.value] for output in graph.outputs}


def taps(
    graph: Graph, batches: Iterable[Feeds], names: Sequence[str], exact: bool = False
) -> Iterator[dict[str, Array]]:
    """A `fastcpu.quantize.executor.Executor`: per batch, the named values as ``[tokens or sequences, channels]``."""
    for feeds in batches:
        values = Run(graph, feeds, exact).values
        yield {name: values[name].T for name in names}
