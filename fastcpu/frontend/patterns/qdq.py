"""QuantizeLinear and DequantizeLinear: dequantized weights, and the quantization points of activations."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir

from fastcpu.frontend.patterns.embedding import EmbeddingSum, IntegerRows
from fastcpu.frontend.patterns.pattern import Inputs, Pattern
from fastcpu.frontend.symbols import (
    Activation,
    Array,
    Constant,
    Context,
    Grid,
    Heads,
    Probabilities,
    Probe,
    Probed,
    Quantized,
    QuantizedConstant,
    Scores,
    Symbol,
    probed,
)

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

_SHIFT = {"int8": 128, "uint8": 0}
"""What turns a zero point of the type into one of u8."""

_INTEGERS = frozenset({"int4", "uint4", "int8", "uint8", "int16", "uint16", "int32"})
"""What a DequantizeLinear of a constant may hold; the other types are floating-point ones."""


def _dtype(ctx: Import, node: ir.Node, inputs: Inputs) -> str | None:
    """The type of the integers: that of the zero point, or else what the node or its input says."""
    if len(inputs) > 2 and inputs[2] is not None:
        zero_point = ctx.constant(inputs[2])
        dtype = None if zero_point is None else zero_point.dtype.name
    else:
        dtype = inputs[0].dtype if isinstance(inputs[0], Quantized) else "uint8"
    declared = node.attributes.get("output_dtype")  # QuantizeLinear of opset 21; 0 leaves it to the zero point
    if node.op_type != "QuantizeLinear" or declared is None or declared.as_int() == 0:
        return dtype
    name = np.dtype(onnx_ir.DataType(declared.as_int()).numpy()).name
    return name if len(inputs) < 3 or inputs[2] is None or name == dtype else None


def _grid(ctx: Import, node: ir.Node, inputs: Inputs, dtype: str | None) -> Grid | None:
    scale = ctx.constant(inputs[1])
    zero_point = ctx.constant(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else np.zeros((), np.uint8)
    if scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1 or dtype not in _SHIFT:
        ctx.miss("qdq", node, "an activation needs one constant scale and an int8 or uint8 zero point")
        return None
    return Grid(float(np.float32(scale.reshape(()))), int(zero_point.reshape(())) + _SHIFT[dtype])


def _weight(ctx: Import, node: ir.Node, weight: Constant, inputs: Inputs) -> list[Symbol] | None:
    scale = ctx.constant(inputs[1])
    zero_point = ctx.constant(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else None
    block = node.attributes.get("block_size")
    if scale is None or scale.ndim > 1 or (block is not None and block.as_int() != 0):
        ctx.miss("qdq", node, "a constant needs one scale, or one per index of an axis")
        return None
    data = weight.array
    if data.dtype.name not in _INTEGERS:
        ctx.miss("qdq", node, f"constants of type {data.dtype.name} are not supported")
        return None
    zero = np.zeros((), data.dtype) if zero_point is None else zero_point
    axis = None if scale.size == 1 else ctx.axis(node, data.ndim, 1)
    if axis is not None and not (0 <= axis < data.ndim and scale.size == data.shape[axis]):
        ctx.miss("qdq", node, f"{scale.size} scales do not fit axis {axis} of a constant of shape {list(data.shape)}")
        return None
    if zero.size not in (1, scale.size):
        ctx.miss("qdq", node, f"{zero.size} zero points beside {scale.size} scales")
        return None
    shape = [1] * data.ndim
    if axis is not None:
        shape[axis] = -1
    wide_scale, wide_zero = (
        array.reshape(shape if array.size > 1 else ()) for array in (scale.astype(np.float32), zero)
    )
    values = (data.astype(np.int32) - wide_zero.astype(np.int32)).astype(np.float32) * wide_scale
    return [Constant(values, weight.name, QuantizedConstant(data, wide_scale.reshape(-1), zero, axis))]


def _rows(ctx: Import, node: ir.Node, rows: IntegerRows, inputs: Inputs) -> list[Symbol] | None:
    scale = ctx.constant(inputs[1])
    zero_point = ctx.constant(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else np.zeros(1, np.int8)
    if scale is None or zero_point is None or scale.size != 1 or zero_point.size != 1:
        ctx.miss("qdq", node, "rows of an integer table need one constant scale and zero point")
        return None
    return [rows.scaled(scale.astype(np.float32).reshape(()), zero_point.reshape(1))]


def _computed(ctx: Import, x: Probed, inputs: Inputs) -> list[Symbol] | None:
    """What depends on shapes and masks alone, such as a bias by position; onnx evaluates it from opset 19 on only."""
    scale = ctx.scalar(inputs[1])
    zero_point = ctx.scalar(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else 0.0
    if scale is None or zero_point is None:
        return None

    def real(probe: Probe) -> Array:
        return np.asarray((x.at(probe).astype(np.int32) - np.int32(zero_point)).astype(np.float32) * np.float32(scale))

    return [probed(real, x.padding_id)]


def _on_embedding(ctx: Import, x: EmbeddingSum, grid: Grid) -> Symbol | None:
    """Rows of a table that is on the grid already stay as they are."""
    tables = [table.quantized for _, table in x.terms]
    if len(tables) == 1 and x.row is None and tables[0] is not None and tables[0].axis is None:
        table = tables[0]
        shift = _SHIFT.get(table.data.dtype.name)
        if shift is not None and Grid(float(table.scale[0]), int(table.zero_point.reshape(-1)[0]) + shift) == grid:
            return x
    source = ctx.activation(x)
    return None if source is None else replace(source, grid=grid)


def _on_grid(ctx: Import, node: ir.Node, x: Symbol, grid: Grid) -> Symbol | None:
    """``x`` quantized with ``grid`` and dequantized again."""
    if isinstance(x, Context):
        return replace(x, grids=(*x.grids, grid))
    if isinstance(x, EmbeddingSum):
        return _on_embedding(ctx, x, grid)
    if isinstance(x, Heads | Scores | Probabilities):
        scaled = isinstance(x, Heads) and x.after != 1.0
        if x.grid == grid and not scaled:
            return x
        if x.grid is not None or scaled or (isinstance(x, Scores) and (x.masked or x.bias)):
            ctx.miss("qdq", node, "a second quantization point on the same queries, keys, values or scores")
            return None
        return replace(x, grid=grid)
    source = ctx.activation(x)
    if not isinstance(source, Activation):
        return None
    return source if source.grid == grid else replace(ctx.builder.f32(source), grid=grid)


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x = inputs[0]
    if isinstance(x, Constant) and node.op_type == "DequantizeLinear":
        return _weight(ctx, node, x, inputs)
    if isinstance(x, IntegerRows) and node.op_type == "DequantizeLinear":
        return _rows(ctx, node, x, inputs)
    if isinstance(x, Probed) and node.op_type == "DequantizeLinear":
        return _computed(ctx, x, inputs)
    if x is None or isinstance(x, Constant | Probed):
        return None
    dtype = _dtype(ctx, node, inputs)
    grid = _grid(ctx, node, inputs, dtype)
    if grid is None or dtype is None:
        return None
    if node.op_type == "QuantizeLinear":
        return [Quantized(x, grid, dtype)]
    if not isinstance(x, Quantized) or (x.grid, x.dtype) != (grid, dtype):
        ctx.miss("qdq", node, "its scale and zero point are not those of a QuantizeLinear before it")
        return None
    result = _on_grid(ctx, node, x.source, grid)
    if result is None:
        ctx.miss("qdq", node, f"a quantization point on {type(x.source).__name__} has no runtime op")
    return None if result is None else [result]


PATTERN = Pattern("qdq", frozenset({"QuantizeLinear", "DequantizeLinear"}), match)
