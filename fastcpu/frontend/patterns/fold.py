"""Constant folding, and the shape and mask arithmetic that exporters write: evaluated per probe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastcpu.frontend.evaluate import Evaluator
from fastcpu.frontend.patterns.pattern import Inputs, Pattern
from fastcpu.frontend.symbols import Constant, Probed, Symbol

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

# Operators that make something out of nothing known, or whose body is a graph of its own.
_NEVER = frozenset(
    {"If", "Loop", "Scan", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"}
)


def _shape(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    shapes = ctx.shapes(inputs[0])
    if shapes is None:
        ctx.miss("fold", node, "the shape of its input is unknown")
        return None
    start, end = node.attributes.get("start"), node.attributes.get("end")
    part = slice(None if start is None else start.as_int(), None if end is None else end.as_int())
    if node.op_type == "Size":
        return [Probed(tuple(np.array(int(np.prod(shape)), np.int64) for shape in shapes))]
    return [Probed(tuple(np.array(shape[part], np.int64) for shape in shapes))]


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type in _NEVER:
        return None
    if node.op_type in ("Shape", "Size"):
        return _shape(ctx, node, inputs)
    given = [symbol for symbol in inputs if symbol is not None]
    if not all(isinstance(symbol, Constant | Probed) for symbol in given) or _is_table_lookup(node, inputs):
        return None
    try:
        evaluator = Evaluator(node, ctx.opset)
    except RuntimeError as error:  # onnx has no reference implementation of every operator in every opset
        ctx.miss("fold", node, str(error))
        return None
    if all(isinstance(symbol, Constant) for symbol in given):
        arrays = evaluator([symbol.array if isinstance(symbol, Constant) else None for symbol in inputs])
        return [Constant(array, _origin(node, given)) for array in arrays]
    columns = [ctx.arrays(symbol) for symbol in inputs]
    runs = [evaluator([None if column is None else column[i] for column in columns]) for i in range(len(ctx.probes))]
    return [Probed(tuple(arrays)) for arrays in zip(*runs, strict=True)]


def _is_table_lookup(node: ir.Node, inputs: Inputs) -> bool:
    """True for rows of an embedding table by position, which are left to the pattern of embeddings."""
    if node.op_type != "Gather" or not isinstance(inputs[1], Probed):
        return False
    return isinstance(inputs[0], Constant) and inputs[0].array.ndim == 2 and inputs[0].array.dtype.kind == "f"


def _origin(node: ir.Node, given: list[Symbol]) -> str:
    """The name for messages: that of the one array which ``node`` rearranges, or its own output's."""
    if len(given) == 1 and isinstance(given[0], Constant):
        return given[0].name
    return node.outputs[0].name or node.op_type


PATTERN = Pattern("fold", None, match)
