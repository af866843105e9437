"""Constant folding, and the shape and mask arithmetic that exporters write: evaluated per probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from fastcpu.frontend.evaluate import Evaluator
from fastcpu.frontend.patterns.pattern import Inputs, Pattern
from fastcpu.frontend.symbols import Array, Constant, Probe, Probed, Symbol, probed

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

# Operators that make something out of nothing known, or whose body is a graph of its own.
_NEVER = frozenset(
    {"If", "Loop", "Scan", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"}
)


# What embedding tables hold.
_TABLES = (np.float16, np.float32, np.float64, np.int8, np.uint8)


def _shape(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    source = inputs[0]
    if source is None or ctx.shapes(source) is None:
        ctx.miss("fold", node, "the shape of its input is unknown")
        return None
    start, end = node.attributes.get("start"), node.attributes.get("end")
    part = slice(None if start is None else start.as_int(), None if end is None else end.as_int())

    def sizes(probe: Probe) -> Array:
        shape = source.shape(probe) or ()
        return np.array(int(np.prod(shape)) if node.op_type == "Size" else shape[part], np.int64)

    return [probed(sizes)]


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type in _NEVER:
        return None
    if node.op_type in ("Shape", "Size"):
        return _shape(ctx, node, inputs)
    given = [symbol for symbol in inputs if isinstance(symbol, Constant | Probed)]
    if len(given) < sum(symbol is not None for symbol in inputs) or _is_position_lookup(ctx, node, inputs):
        return None
    padding_ids = {symbol.padding_id for symbol in given if isinstance(symbol, Probed)} - {None}
    if len(padding_ids) > 1:
        ctx.miss("fold", node, f"it depends on where several token ids stand: {sorted(map(str, padding_ids))}")
        return None
    try:
        evaluator = Evaluator(node, ctx.opset)
    except RuntimeError as error:  # onnx has no reference implementation of every operator in every opset
        ctx.miss("fold", node, str(error))
        return None

    @cache
    def outputs(probe: Probe) -> list[Array]:
        return evaluator([s.at(probe) if isinstance(s, Constant | Probed) else None for s in inputs])

    if all(isinstance(symbol, Constant) for symbol in given):
        return [Constant(array, _origin(node, given)) for array in outputs(ctx.probes[0])]
    padding_id = next(iter(padding_ids), None)
    count = len(outputs(ctx.probes[0]))
    return [probed(partial(_nth, outputs, number), padding_id) for number in range(count)]


def _nth(outputs: Callable[[Probe], list[Array]], number: int, probe: Probe) -> Array:
    return outputs(probe)[number]


def _is_position_lookup(ctx: Import, node: ir.Node, inputs: Inputs) -> bool:
    """True for rows of an embedding table by position, which are left to the pattern of embeddings."""
    if node.op_type != "Gather" or not isinstance(inputs[1], Probed) or ctx.axis(node, 2, 0) != 0:
        return False
    table = inputs[0]
    if not isinstance(table, Constant) or table.array.ndim != 2 or table.array.dtype not in _TABLES:
        return False
    return any(ctx.same_shape(inputs[1], *shape) for shape in (("s",), (1, "s"), ("b", "s")))


def _origin(node: ir.Node, given: Sequence[Symbol]) -> str:
    """The name for messages: that of the one array which ``node`` rearranges, or its own output's."""
    if len(given) == 1 and isinstance(given[0], Constant):
        return given[0].name
    return node.outputs[0].name or node.op_type


PATTERN = Pattern("fold", None, match)
