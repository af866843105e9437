"""Sentence embeddings: the mean over real tokens and division by the Euclidean length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import Activation, Derived, Symbol, source_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

_LARGEST_EPSILON = 1e-6
"""Clamps of counts and lengths from below that only guard against a division by zero."""


def _is_mask(ctx: Import, symbol: Symbol | None) -> bool:
    arrays = ctx.arrays(symbol)
    if arrays is None or any(array.ndim != 3 for array in arrays):
        return False
    return all((array == probe.mask[:, :, None]).all() for array, probe in zip(arrays, ctx.probes, strict=True))


def _is_count(ctx: Import, symbol: Symbol | None) -> bool:
    arrays = ctx.arrays(symbol)
    if arrays is None or any(array.ndim != 2 for array in arrays):
        return False
    counts = [probe.mask.sum(axis=1, keepdims=True) for probe in ctx.probes]
    return all(
        np.broadcast_shapes(a.shape, c.shape)[0] == c.shape[0] and (a == c).all()
        for a, c in zip(arrays, counts, strict=True)
    )


def _reduce(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x = inputs[0]
    keepdims = node.attributes.get("keepdims")
    keeps = keepdims is None or keepdims.as_int() == 1
    axes_input = inputs[1] if len(inputs) > 1 else None
    if node.op_type == "ReduceSum":
        tokens = source_of(x, "masked_tokens")
        if tokens is not None and ctx.axes(node, axes_input, 3) == [1] and not keeps:
            return [Derived(tokens, "token_sum")]
        return None
    source = ctx.activation(x)
    if source is None:
        return None
    rank = 3 if source.space == "tokens" else 2
    return [Derived(source, "norm")] if ctx.axes(node, axes_input, rank) == [rank - 1] and keeps else None


def _divide(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x, divisor = inputs[0], inputs[1]
    summed, normed = source_of(x, "token_sum"), source_of(divisor, "norm")
    if summed is not None:
        if not _is_count(ctx, divisor):
            ctx.miss("pooling", node, "the sum over tokens is not divided by their number")
            return None
        return [ctx.builder.pool("mean", summed)]
    if normed is not None and ctx.activation(x) == normed:
        return [ctx.builder.l2norm(normed)]
    return None


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    match node.op_type:
        case "Mul":
            for x, other in either_order(inputs):
                source = ctx.activation(x) if _is_mask(ctx, other) else None
                if isinstance(source, Activation) and source.space == "tokens":
                    return [Derived(source, "masked_tokens")]
            return None
        case "ReduceSum" | "ReduceL2":
            return _reduce(ctx, node, inputs)
        case "Div":
            return _divide(ctx, node, inputs)
    x = inputs[0]  # Clip, Max
    bounded_above = len(inputs) > 2 and inputs[2] is not None
    if x is None or source_of(x, "norm") is None or len(inputs) < 2 or bounded_above:
        return None
    lowest = ctx.scalar(inputs[1])
    return [x] if lowest is not None and lowest <= _LARGEST_EPSILON else None


PATTERN = Pattern("pooling", frozenset({"Mul", "ReduceSum", "ReduceL2", "Div", "Clip", "Max"}), match)
