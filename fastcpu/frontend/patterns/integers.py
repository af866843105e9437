"""MatMulInteger: u8 codes times integer weights, with the arithmetic around it that makes real numbers of the product.

Codes come from a QuantizeLinear, from arithmetic that takes a scale per token (as `fastcpu export` writes it), or from
a DynamicQuantizeLinear. That has one scale for a whole batch, padding included, which no ragged runtime can have: it is
a scale per token where the caller has agreed to that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx_ir

from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import Activation, Array, Constant, Probe, Quantized, Shape, Symbol
from fastcpu.quantize.weights import quantize_rows

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

_SMALLEST = 1e-12
"""The size of a token may be bounded from below by this, against a division by zero."""


@dataclass(frozen=True, eq=False)
class TokenQuantization(Symbol):
    """A stage of quantizing every token of ``source`` with a scale of its own.

    ``size`` is |x|, ``largest`` its maximum over the channels, ``scale`` that by 127 (times ``factor``); ``scaled`` is
    x / scale, ``rounded`` that as integers, ``shifted`` plus 128, ``codes`` as u8, ``zero_point`` their 128.
    """

    source: Activation
    stage: Literal["size", "largest", "scale", "scaled", "rounded", "shifted", "codes", "zero_point"]
    factor: Array | None = None

    def shape(self, probe: Probe) -> Shape | None:
        shape = self.source.shape(probe)
        if self.stage == "zero_point":
            return None
        return (*shape[:-1], 1) if self.stage in ("largest", "scale") else shape


@dataclass(frozen=True, eq=False)
class IntegerProduct(Symbol):
    """``(codes - zero point) (weight - weight_zero_point) + bias``, with what it was multiplied with since.

    ``source`` has the grid of its codes, or none where every token has its own scale: then ``scaled`` once the product
    was multiplied with that. ``weight`` is [K, N], ``factor`` one number or [N].
    """

    name: str
    source: Activation
    weight: Constant
    weight_zero_point: Array
    bias: Constant | None = None
    factor: Array | None = None
    scaled: bool = False

    def shape(self, probe: Probe) -> Shape:
        return (*self.source.shape(probe)[:-1], self.weight.array.shape[1])


def _dynamic(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if not ctx.per_token:
        ctx.miss(
            "integers",
            node,
            "it has one scale for a whole batch, padding included, so that every answer depends on the rest of its "
            "batch; --per-token (per_token=True) gives each token a scale of its own instead",
        )
        return None
    x = ctx.activation(inputs[0])
    if x is None:
        ctx.miss("integers", node, "something other than an activation per token is quantized at run time")
        return None
    ctx.used_per_token = True
    x = ctx.builder.f32(x)
    return [TokenQuantization(x, "codes"), TokenQuantization(x, "scale"), TokenQuantization(x, "zero_point")]


def _unary(ctx: Import, node: ir.Node, x: Symbol | None) -> list[Symbol] | None:
    if node.op_type == "Abs":
        source = None if isinstance(x, TokenQuantization) else ctx.activation(x)
        return None if source is None else [TokenQuantization(ctx.builder.f32(source), "size")]
    if not isinstance(x, TokenQuantization):
        return None
    if node.op_type == "Round" and x.stage == "scaled":
        return [replace(x, stage="rounded")]
    to_u8 = node.op_type == "Cast" and node.attributes["to"].as_int() == onnx_ir.DataType.UINT8
    return [replace(x, stage="codes")] if to_u8 and x.stage == "shifted" else None


def _binary(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    """One step from |x| to codes, or of a product to real numbers."""
    op = node.op_type
    if op == "Div":
        x, divisor = inputs[0], inputs[1]
        if isinstance(x, TokenQuantization) and x.stage == "largest" and ctx.scalar(divisor) == 127:
            return [replace(x, stage="scale")]
        if isinstance(divisor, TokenQuantization) and divisor.stage == "scale" and divisor.factor is None:
            source = ctx.activation(x)
            same = source is not None and ctx.builder.f32(source) == divisor.source
            return [replace(divisor, stage="scaled")] if same else None
        return None
    for x, other in either_order(inputs):
        if isinstance(x, IntegerProduct):
            return _to_real(ctx, node, x, other)
    for x, other in either_order(inputs):
        if not isinstance(x, TokenQuantization):
            continue
        number = ctx.scalar(other)
        if op == "Max" and x.stage == "largest" and number is not None and 0 <= number <= _SMALLEST:
            return [x]
        if op == "Add" and x.stage == "rounded" and number == 128:
            return [replace(x, stage="shifted")]
        if op == "Mul" and x.stage == "scale" and x.factor is None and isinstance(other, Constant):
            return [replace(x, factor=other.array.astype(np.float32))]
    return None


def _largest(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x = inputs[0]
    if not isinstance(x, TokenQuantization) or x.stage != "size":
        return None
    rank = 3 if x.source.space == "tokens" else 2
    keepdims = node.attributes.get("keepdims")
    axes = ctx.axes(node, inputs[1] if len(inputs) > 1 else None, rank)
    if axes != [rank - 1] or (keepdims is not None and keepdims.as_int() == 0):
        ctx.miss("integers", node, f"a maximum over axes {axes}, not over the channels of each token")
        return None
    return [replace(x, stage="largest")]


def _multiply(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    codes, weight = inputs[0], inputs[1]
    zero_points = [inputs[i] if len(inputs) > i else None for i in (2, 3)]
    if not isinstance(weight, Constant) or weight.array.ndim != 2 or weight.array.dtype not in (np.int8, np.uint8):
        ctx.miss("integers", node, "the second factor is not a constant matrix of int8 or uint8")
        return None
    source = _source(ctx, codes, zero_points[0])
    if source is None:
        ctx.miss("integers", node, "the first factor is not u8 with the zero point that it was quantized with")
        return None
    if source.channels != weight.array.shape[0]:
        ctx.miss(
            "integers", node, f"the weight takes {weight.array.shape[0]} channels, its input has {source.channels}"
        )
        return None
    zero_point = np.zeros(1, np.int32) if zero_points[1] is None else ctx.constant(zero_points[1])
    if zero_point is None or zero_point.size not in (1, weight.array.shape[1]):
        ctx.miss("integers", node, "the zero points of the weight are not one constant, or one per output channel")
        return None
    return [IntegerProduct(ctx.path(node), source, weight, zero_point.reshape(-1).astype(np.int32))]


def _source(ctx: Import, codes: Symbol | None, zero_point: Symbol | None) -> Activation | None:
    """What the codes of a product stand for, if its zero point is theirs."""
    if isinstance(codes, TokenQuantization) and codes.stage == "codes":
        if isinstance(zero_point, TokenQuantization):
            return codes.source if zero_point.stage == "zero_point" and zero_point.source == codes.source else None
        return codes.source if ctx.integers(zero_point) == [128] else None
    if not isinstance(codes, Quantized):
        return None
    number = [0] if zero_point is None else ctx.integers(zero_point)
    shift = {"uint8": 0, "int8": 128}.get(codes.dtype)
    source = ctx.activation(codes.source)
    if source is None or shift is None or number is None or len(number) != 1:
        return None
    return replace(ctx.builder.f32(source), grid=codes.grid) if number[0] + shift == codes.grid.zero_point else None


def _to_real(ctx: Import, node: ir.Node, x: IntegerProduct, other: Symbol | None) -> list[Symbol] | None:
    """The product plus a bias, or times a scale; the linear once it is complete."""
    outputs = x.weight.array.shape[1]
    if isinstance(other, TokenQuantization):
        if node.op_type != "Mul" or other.stage != "scale" or other.source != x.source or x.scaled:
            ctx.miss("integers", node, "a product is not multiplied with the scale of its own codes")
            return None
        if other.factor is not None:
            x = replace(x, factor=other.factor if x.factor is None else x.factor * other.factor)
        x = replace(x, scaled=True)
    elif not isinstance(other, Constant) or other.array.size not in (1, outputs):
        ctx.miss("integers", node, "a product meets something other than one constant number per output channel")
        return None
    elif node.op_type == "Mul":
        factor = other.array.astype(np.float32)
        x = replace(x, factor=factor if x.factor is None else x.factor * factor)
    elif x.bias is None and x.factor is None and other.array.dtype == np.int32:
        return [replace(x, bias=Constant(np.broadcast_to(other.array.reshape(-1), (outputs,)), other.name))]
    else:
        ctx.miss("integers", node, "a second bias, or one that is not an integer, before the product is scaled")
        return None
    complete = x.factor is not None and (x.scaled or x.source.grid is not None)
    return [_linear(ctx, node, x)] if complete else [x]


def _linear(ctx: Import, node: ir.Node, x: IntegerProduct) -> Activation:
    assert x.factor is not None
    grid = x.source.grid
    factor = x.factor.reshape(-1).astype(np.float64) / (1.0 if grid is None else np.float64(np.float32(grid.scale)))
    scale = np.broadcast_to(factor, x.weight.array.shape[1:]).astype(np.float32)
    integers = x.weight.array.astype(np.int32) - x.weight_zero_point
    if integers.min() >= -127 and integers.max() <= 127 and (scale > 0).all():
        weight: tuple[Array, Array | None] = integers.T.astype(np.int8), scale
    else:
        real = (integers * scale.astype(np.float64)).T.astype(np.float32)
        if grid is None:
            ctx.miss("integers", node, "the weight is not symmetric in [-127, 127]: rounded to s8 once more")
            weight = quantize_rows(real)
        else:
            ctx.miss("integers", node, "the weight is not symmetric in [-127, 127]: computed in f32")
            weight = real, None
    data, scales = weight
    y = ctx.builder.linear(x.name, x.source, data, x.weight.name, scales, dynamic=grid is None)
    if x.bias is None:
        return y
    if scales is not None and grid is not None:
        return ctx.builder.add_integer_bias(y, x.bias, x.bias.array)
    bias = (x.bias.array * x.factor.reshape(-1).astype(np.float64)).astype(np.float32)
    biased = ctx.builder.add_bias(y, Constant(bias, x.bias.name))
    assert biased is not None, x.name
    return biased


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    match node.op_type:
        case "DynamicQuantizeLinear":
            return _dynamic(ctx, node, inputs)
        case "MatMulInteger":
            return _multiply(ctx, node, inputs)
        case "ReduceMax":
            return _largest(ctx, node, inputs)
        case "Abs" | "Round" | "Cast":
            return _unary(ctx, node, inputs[0])
    return _binary(ctx, node, inputs)


PATTERN = Pattern(
    "integers",
    frozenset(
        {"DynamicQuantizeLinear", "MatMulInteger", "ReduceMax", "Abs", "Round", "Cast", "Max", "Div", "Mul", "Add"}
    ),
    match,
)
