"""Linears: MatMul or Gemm with a constant weight, and the Add of a constant bias."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import Activation, Array, Constant, QuantizedConstant, Symbol

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import


def _integer_weight(
    ctx: Import, node: ir.Node, quantized: QuantizedConstant, transposed: bool
) -> tuple[Array, Array] | None:
    """The s8 weight [N, K] and its scale [N], None when the file's integers are not symmetric ones in [-127, 127]."""
    output_axis = 0 if transposed else 1
    data = quantized.data
    if data.dtype == np.uint8 and (quantized.zero_point == 128).all():
        data, zero_point = (data.astype(np.int16) - 128), np.zeros(1)
    else:
        zero_point = quantized.zero_point
    if data.dtype.kind != "i" or np.any(zero_point) or data.min() < -127 or data.max() > 127:
        ctx.miss("linear", node, "the weight is not symmetric in [-127, 127]: computed in f32 from dequantized values")
        return None
    if quantized.axis not in (None, output_axis):
        ctx.miss("linear", node, "the weight has scales per input channel: computed in f32 from dequantized values")
        return None
    weight = (data if transposed else data.T).astype(np.int8)
    return weight, np.broadcast_to(quantized.scale.reshape(-1), weight.shape[:1])


def _multiply(ctx: Import, node: ir.Node, x: Activation, weight: Constant, transposed: bool) -> Activation | None:
    if weight.array.ndim != 2 or weight.array.dtype.kind != "f":
        ctx.miss("linear", node, f"the weight has {weight.array.ndim} axes")
        return None
    array = weight.array if transposed else weight.array.T
    if array.shape[1] != x.channels:
        ctx.miss("linear", node, f"the weight takes {array.shape[1]} channels, its input has {x.channels}")
        return None
    if x.grid is not None and weight.quantized is not None:
        integers = _integer_weight(ctx, node, weight.quantized, transposed)
        if integers is not None:
            return ctx.builder.linear(ctx.path(node), x, integers[0], weight.name, integers[1])
    return ctx.builder.linear(ctx.path(node), x, array, weight.name)


def _bias(ctx: Import, y: Activation, bias: Constant, x: Activation, weight: Constant) -> Activation | None:
    """Add a bias; an s32 one of the file stays one where its scale is that of the accumulator."""
    quantized = bias.quantized
    if (
        quantized is not None
        and quantized.data.dtype == np.int32
        and x.grid is not None
        and weight.quantized is not None
    ):
        unit = np.float32(x.grid.scale) * weight.quantized.scale.reshape(-1)
        if not np.any(quantized.zero_point) and np.allclose(quantized.scale.reshape(-1), unit, rtol=1e-5, atol=0):
            return ctx.builder.add_integer_bias(y, bias, np.broadcast_to(quantized.data.reshape(-1), (y.channels,)))
    return ctx.builder.add_bias(y, bias)


def _is_bias(bias: Symbol | None, channels: int) -> bool:
    return isinstance(bias, Constant) and bias.array.shape in ((channels,), (1, channels), (1, 1, channels))


def _gemm(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x, weight = ctx.activation(inputs[0]), inputs[1]
    bias = inputs[2] if len(inputs) > 2 else None
    if x is None or not isinstance(weight, Constant):
        return None
    attributes = node.attributes
    numbers = [attributes[key].as_float() if key in attributes else 1.0 for key in ("alpha", "beta")]
    flags = [attributes[key].as_int() if key in attributes else 0 for key in ("transA", "transB")]
    if numbers != [1.0, 1.0] or flags[0] or x.space != "sequences":
        ctx.miss("linear", node, f"Gemm with alpha, beta = {numbers}, transA = {flags[0]} on {x.space}")
        return None
    y = _multiply(ctx, node, x, weight, bool(flags[1]))
    if y is None or bias is None:
        return None if y is None else [y]
    if not isinstance(bias, Constant) or not _is_bias(bias, y.channels):
        ctx.miss("linear", node, "the bias is not a constant with one number per output channel")
        return None
    biased = _bias(ctx, y, bias, x, weight)
    return None if biased is None else [biased]


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type == "Gemm":
        return _gemm(ctx, node, inputs)
    if node.op_type == "MatMul":
        weight = inputs[1]
        source = ctx.activation(inputs[0]) if isinstance(weight, Constant) else None
        if source is None or not isinstance(weight, Constant):
            return None
        y = _multiply(ctx, node, source, weight, transposed=False)
        return None if y is None else [y]
    for x, bias in either_order(inputs):
        if isinstance(x, Activation) and isinstance(bias, Constant) and _is_bias(bias, x.channels):
            biased = ctx.builder.add_bias(x, bias)
            if biased is None:
                ctx.miss("linear", node, "a constant is added to something other than a bare product with a weight")
            return None if biased is None else [biased]
    return None


PATTERN = Pattern("linear", frozenset({"MatMul", "Gemm", "Add"}), match)
