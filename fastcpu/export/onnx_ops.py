"""Runtime op -> ONNX nodes: one function per op of docs/format.md."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx

from fastcpu.export.onnx_emit import Emitter, dequantized
from fastcpu.graph.ir import Node, Quantization, Tensor
from fastcpu.quantize.table import ACTIVATIONS, make_table


def _unpad(e: Emitter, node: Node) -> None:
    padding_id = node.attrs.get("padding_id")
    positions = e.positions() if padding_id is None else e.counted_positions(padding_id)
    arrays = [e.inputs["ids"], positions, *([e.inputs["types"]] if "types" in e.inputs else [])]
    for value, array in zip(node.outputs, arrays, strict=False):
        e.bind(value, array)


def _rows(e: Emitter, table: Tensor, index: str, name: str) -> str:
    """Rows of a table; in the int8 forms, the codes of an s8 table times their scales."""
    if table.scale is None or e.form == "fp32":
        return e.op("Gather", [e.constant(table.name, dequantized(table)), index], name)
    codes = e.op("Gather", [e.constant(f"{table.name}.codes", table.data), index], f"{name}.codes")
    scale = e.op("Gather", [e.constant(f"{table.name}.scale", table.scale[:, None]), index], f"{name}.scale")
    return e.op("Mul", [e.op("Cast", [codes], f"{name}.steps", to=onnx.TensorProto.FLOAT), scale], name)


def _embedding(e: Emitter, node: Node) -> None:
    total = ""
    for i, value in enumerate(node.inputs):
        rows = _rows(e, e.tensor(node, f"table{i}"), e.real(value), f"{node.name}.rows{i}")
        total = e.op("Add", [total, rows], f"{node.name}.sum{i}") if total else rows
    e.write(node.outputs[0], total)


def _layernorm(e: Emitter, node: Node) -> None:
    x = e.real(node.inputs[0])
    if node.attrs.get("residual", False):
        x = e.op("Add", [x, e.real(node.inputs[1])], f"{node.name}.residual")
    inputs = [x, e.f32_tensor(node, "gamma"), e.f32_tensor(node, "beta")]
    y = e.op("LayerNormalization", inputs, node.name, axis=-1, epsilon=float(node.attrs["epsilon"]))
    e.write(node.outputs[0], y)
    if len(node.outputs) > 1:
        if "smooth" in node.tensors:
            y = e.op("Div", [y, e.f32_tensor(node, "smooth")], f"{node.name}.smooth")
        e.write(node.outputs[1], y)


def _activation(e: Emitter, function: str, x: str, name: str) -> str:
    if function == "none":
        return x
    if function == "relu":
        return e.op("Relu", [x], f"{name}.relu")
    if function == "tanh":
        return e.op("Tanh", [x], f"{name}.tanh")
    # 0.5 * x * (1 + erf(x / sqrt(2))), in the order that torch exports and graph optimizers recognize
    if function == "gelu_tanh":
        cube = e.op("Mul", [e.op("Mul", [x, x], f"{name}.square"), x], f"{name}.cube")
        inner = e.op("Add", [x, e.op("Mul", [cube, e.f32(0.044715)], f"{name}.bent")], f"{name}.inner")
        part = e.op("Tanh", [e.op("Mul", [inner, e.f32(math.sqrt(2 / math.pi))], f"{name}.scaled")], f"{name}.tanh")
    else:
        part = e.op("Erf", [e.op("Div", [x, e.f32(math.sqrt(2))], f"{name}.scaled")], f"{name}.erf")
    product = e.op("Mul", [x, e.op("Add", [part, e.f32(1)], f"{name}.one_plus")], f"{name}.product")
    return e.op("Mul", [product, e.f32(0.5)], f"{name}.gelu")


def _table(e: Emitter, node: Node, x: str) -> str:
    """The function that a table stands for, the closest one within one code, or else a lookup."""
    source = Quantization(node.attrs["table_scale"], node.attrs["table_zero_point"])
    target = e.graph.values[node.outputs[0]].quantization
    table = e.tensor(node, "table").data
    if target is not None:
        errors = {name: np.abs(make_table(name, source, target).astype(np.int32) - table) for name in ACTIVATIONS}
        function = min(errors, key=lambda name: int(errors[name].sum()))  # on a coarse grid several are within a code
        if errors[function].max() <= 1:
            return _activation(e, function, e.fake_quant(x, source.scale, source.zero_point, node.name), node.name)
    name = f"{node.name}.table"
    codes = e.op("QuantizeLinear", [x, e.f32(source.scale), e.u8(source.zero_point)], f"{name}.codes")
    index = e.op("Cast", [codes], f"{name}.index", to=onnx.TensorProto.INT64)
    found = e.op("Gather", [e.constant(e.tensor(node, "table").name, table), index], f"{name}.found")
    return e.op("DequantizeLinear", [found, *e.grid(node.outputs[0])], f"{name}.real", axis=-1)


def _linear(e: Emitter, node: Node) -> None:
    weight = e.tensor(node, "weight")
    quantized = e.form != "fp32" and weight.scale is not None
    if quantized and e.form == "matmulinteger":
        y = _matmul_integer(e, node, weight)
    else:
        y = _matmul(e, node, weight, quantized)
    activation = node.attrs.get("activation", "none")
    y = _table(e, node, y) if activation == "table" else _activation(e, activation, y, node.name)
    e.write(node.outputs[0], y)


def _matmul(e: Emitter, node: Node, weight: Tensor, quantized: bool) -> str:
    if quantized and weight.scale is not None:
        codes = e.constant(f"{weight.name}.codes", weight.data.T)
        scale = e.constant(f"{weight.name}.scale", weight.scale)
        zero = e.constant(f"{weight.name}.zero_point", np.zeros(len(weight.scale), np.int8))
        matrix = e.op("DequantizeLinear", [codes, scale, zero], weight.name, axis=1)
    else:
        matrix = e.constant(weight.name, dequantized(weight).T)
    product = e.op("MatMul", [e.real(node.inputs[0]), matrix], f"{node.name}.product")
    bias = e.constant(f"{node.name}.bias", _bias(e, node, weight).astype(np.float32))
    return e.op("Add", [product, bias], node.name)


def _matmul_integer(e: Emitter, node: Node, weight: Tensor) -> str:
    """MatMulInteger, Add (static only), Cast, Mul: the form in which DeepSparse runs int8."""
    assert weight.scale is not None
    x = e.graph.values[node.inputs[0]]
    zero_point = 128 if x.quantization is None else x.quantization.zero_point
    inputs = [
        e.codes(x.name),
        e.constant(f"{weight.name}.codes", weight.data.T),
        e.u8(zero_point),
        e.constant("const.s8.0", np.zeros((), np.int8)),
    ]
    sums = e.op("MatMulInteger", inputs, f"{node.name}.sums")
    scale = weight.scale.astype(np.float64)
    bias = _bias(e, node, weight)
    if x.quantization is not None:
        scale = scale * x.quantization.scale
        limits = np.iinfo(np.int32)
        steps = np.clip(np.rint(bias / scale), limits.min // 2, limits.max // 2).astype(np.int32)
        sums = e.op("Add", [sums, e.constant(f"{node.name}.bias", steps)], f"{node.name}.biased")
    product = e.op("Cast", [sums], f"{node.name}.product", to=onnx.TensorProto.FLOAT)
    y = e.op("Mul", [product, e.constant(f"{node.name}.scale", scale.astype(np.float32))], f"{node.name}.scaled")
    if x.quantization is not None:
        return y
    y = e.op("Mul", [y, e.token_scale(x.name)], f"{node.name}.real")
    return e.op("Add", [y, e.constant(f"{node.name}.bias", bias.astype(np.float32))], node.name)


def _bias(e: Emitter, node: Node, weight: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The bias in real units, the one in units of the accumulator included."""
    bias = e.tensor(node, "bias").data.astype(np.float64)
    x = e.graph.values[node.inputs[0]].quantization
    if "bias_s32" in node.tensors and weight.scale is not None and x is not None:
        bias = bias + e.tensor(node, "bias_s32").data * (weight.scale.astype(np.float64) * x.scale)
    return bias


def _heads(e: Emitter, node: Node, role: str, swapped: bool) -> str:
    """[batch, heads, sequence, head_dim] of q, k or v, or with the last two axes swapped."""
    heads, head_dim = node.attrs["heads"], node.attrs["head_dim"]
    own = heads if role == "q" else node.attrs.get("kv_heads", heads)
    value = node.inputs["qkv".index(role)]
    first = node.attrs.get(f"{role}_offset", 0)
    name = f"{node.name}.{role}"
    x = e.real(value)
    if own * head_dim != e.graph.values[value].channels:
        x = e.op("Slice", [x, e.i64(first), e.i64(first + own * head_dim), e.i64(2)], f"{name}.slice")
    factor = node.attrs.get(f"{role}_factor", 1.0)
    if factor != 1.0:
        x = e.op("Mul", [x, e.f32(factor)], f"{name}.factor")
    if f"{role}_scale" in node.attrs and node.op == "attention_qdq":
        x = e.fake_quant(x, node.attrs[f"{role}_scale"], node.attrs[f"{role}_zero_point"], name)
    x = e.op("Reshape", [x, e.i64(0, 0, own, head_dim)], f"{name}.heads")
    if own == heads:
        return e.op("Transpose", [x], name, perm=[0, 2, 3, 1] if swapped else [0, 2, 1, 3])
    x = e.op("Transpose", [x], f"{name}.own", perm=[0, 2, 1, 3])
    x = e.op("Unsqueeze", [x, e.i64(2)], f"{name}.group")
    x = e.op("Expand", [x, e.i64(1, 1, heads // own, 1, 1)], f"{name}.shared")
    x = e.op("Reshape", [x, e.i64(0, heads, -1, head_dim)], f"{name}.all")
    return e.op("Transpose", [x], name, perm=[0, 1, 3, 2]) if swapped else x


def _attention(e: Emitter, node: Node) -> None:
    def point(role: str, x: str) -> str:
        if f"{role}_scale" not in node.attrs:
            return x
        return e.fake_quant(x, node.attrs[f"{role}_scale"], node.attrs[f"{role}_zero_point"], f"{node.name}.{role}")

    q, k, v = (_heads(e, node, role, role == "k") for role in "qkv")
    products = e.op("MatMul", [q, k], f"{node.name}.products")
    scores = point("score", e.op("Div", [products, e.f32(1 / node.attrs["scale"])], f"{node.name}.scores"))
    if "bias" in node.tensors:
        scores = e.op("Add", [scores, e.position_bias(e.tensor(node, "bias"))], f"{node.name}.biased")
    masked = e.op("Add", [scores, e.attention_bias(node.attrs.get("causal", False))], f"{node.name}.masked")
    probabilities = point("probability", e.op("Softmax", [masked], f"{node.name}.probabilities", axis=-1))
    mixed = e.op("MatMul", [probabilities, v], f"{node.name}.mixed")
    tokens = e.op("Transpose", [mixed], f"{node.name}.tokens", perm=[0, 2, 1, 3])
    channels = node.attrs["heads"] * node.attrs["head_dim"]
    e.write(node.outputs[0], e.op("Reshape", [tokens, e.i64(0, 0, channels)], node.name))


def _quantize(e: Emitter, node: Node) -> None:
    e.write(node.outputs[0], e.real(node.inputs[0]))


def _pointwise(e: Emitter, node: Node) -> None:
    e.write(node.outputs[0], _activation(e, node.attrs["function"], e.real(node.inputs[0]), node.name))


def _add(e: Emitter, node: Node) -> None:
    e.write(node.outputs[0], e.op("Add", [e.real(value) for value in node.inputs], node.name))


def _fake_quant(e: Emitter, node: Node) -> None:
    y = e.fake_quant(e.real(node.inputs[0]), node.attrs["scale"], node.attrs["zero_point"], node.name)
    if "bias" in node.tensors:
        y = e.op("Add", [y, e.f32_tensor(node, "bias")], f"{node.name}.biased")
    e.write(node.outputs[0], y)


def _pool(e: Emitter, node: Node) -> None:
    x, name = e.real(node.inputs[0]), node.name
    if node.attrs["mode"] == "cls":
        first = e.op("ArgMax", [e.mask()], f"{name}.first", axis=1, keepdims=1)
        pooled = e.op("GatherND", [x, first], name, batch_dims=1)
    elif node.attrs["mode"] == "mean":
        weights = e.op("Unsqueeze", [e.mask(), e.i64(2)], f"{name}.weights")
        total = e.op("ReduceSum", [e.op("Mul", [x, weights], f"{name}.real"), e.i64(1)], f"{name}.total", keepdims=0)
        count = e.op(
            "Max", [e.op("ReduceSum", [weights, e.i64(1)], f"{name}.sum", keepdims=0), e.f32(1)], f"{name}.count"
        )
        pooled = e.op("Div", [total, count], name)
    else:
        real = e.op("Cast", [e.op("Unsqueeze", [e.mask(), e.i64(2)], f"{name}.mask")], f"{name}.real", to=9)
        kept = e.op("Where", [real, x, e.f32(float(np.finfo(np.float32).min))], f"{name}.kept")
        pooled = e.op("ReduceMax", [kept], name, axes=[1], keepdims=0)
    e.write(node.outputs[0], pooled)


def _l2norm(e: Emitter, node: Node) -> None:
    x = e.real(node.inputs[0])
    norm = e.op("ReduceL2", [x], f"{node.name}.norm", axes=[-1], keepdims=1)
    e.write(node.outputs[0], e.op("Div", [x, e.op("Max", [norm, e.f32(1e-12)], f"{node.name}.positive")], node.name))


def _repad(e: Emitter, node: Node) -> None:
    source = e.graph.values[node.inputs[0]]
    x = e.real(source.name)
    begin, end = node.attrs.get("begin", 0), node.attrs.get("end", source.channels)
    axis = 2 if source.space == "tokens" else 1
    if end - begin != source.channels:
        x = e.op("Slice", [x, e.i64(begin), e.i64(end), e.i64(axis)], f"{node.name}.slice")
    if node.attrs.get("squeeze", False):
        x = e.op("Squeeze", [x, e.i64(axis)], f"{node.name}.squeeze")
    e.bind(node.outputs[0], x)


OPS: dict[str, Callable[[Emitter, Node], None]] = {
    "add": _add,
    "attention": _attention,
    "attention_qdq": _attention,
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
