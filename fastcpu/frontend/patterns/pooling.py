"""Sentence embeddings: the first real token, the mean or maximum over real tokens, division by the Euclidean length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import Activation, Derived, Symbol, source_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

_LOWEST = -1e30
"""What takes the place of padding tokens under a maximum is at most this."""

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
    if node.op_type == "ReduceMax":
        tokens = source_of(x, "kept_tokens")
        pooled = tokens is not None and ctx.axes(node, axes_input, 3) == [1] and not keeps
        return [ctx.builder.pool("max", tokens)] if tokens is not None and pooled else None
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


def _where(ctx: Import, inputs: Inputs) -> list[Symbol] | None:
    """Real tokens as they are, and something very low in the place of padding; or the other way round."""
    for keeps, x, other in ((True, inputs[1], inputs[2]), (False, inputs[2], inputs[1])):
        arrays, number = ctx.arrays(inputs[0]), ctx.scalar(other)
        if arrays is None or number is None or number > _LOWEST:
            continue
        source = ctx.activation(x)
        real = all(
            array.ndim == 3 and ((array == keeps) == (probe.mask[:, :, None] != 0)).all()
            for array, probe in zip(arrays, ctx.probes, strict=True)
        )
        if real and source is not None and source.space == "tokens":
            return [Derived(source, "kept_tokens")]
    return None


def _first_token(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    """A GatherND of the first column of each row whose mask is 1."""
    source, arrays = ctx.activation(inputs[0]), ctx.arrays(inputs[1])
    batch_dims = node.attributes.get("batch_dims")
    if source is None or source.space != "tokens" or arrays is None or batch_dims is None or batch_dims.as_int() != 1:
        return None
    first = [probe.mask.argmax(axis=1)[:, None] for probe in ctx.probes]
    if not all(np.array_equal(array, column) for array, column in zip(arrays, first, strict=True)):
        ctx.miss("pooling", node, "it gathers other tokens than the first real one of each row")
        return None
    return [ctx.builder.pool("cls", source)]


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    match node.op_type:
        case "Mul":
            for x, other in either_order(inputs):
                source = ctx.activation(x) if _is_mask(ctx, other) else None
                if isinstance(source, Activation) and source.space == "tokens":
                    return [Derived(source, "masked_tokens")]
            return None
        case "GatherND":
            return _first_token(ctx, node, inputs)
        case "Where":
            return _where(ctx, inputs)
        case "ReduceSum" | "ReduceL2" | "ReduceMax":
            return _reduce(ctx, node, inputs)
        case "Div":
            return _divide(ctx, node, inputs)
    x = inputs[0]  # Clip, Max
    bounded_above = len(inputs) > 2 and inputs[2] is not None
    if x is None or source_of(x, "norm") is None or len(inputs) < 2 or bounded_above:
        return None
    lowest = ctx.scalar(inputs[1])
    return [x] if lowest is not None and lowest <= _LARGEST_EPSILON else None


PATTERN = Pattern(
    "pooling",
    frozenset({"Mul", "ReduceSum", "ReduceL2", "ReduceMax", "Div", "Clip", "Max", "Where", "GatherND"}),
    match,
)
