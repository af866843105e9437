"""Attention: scale, scores, mask, softmax and context. The op is emitted when ``heads`` merges the heads again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastcpu.frontend.patterns import mask
from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import Array, Context, Grid, Heads, Probabilities, Scores, Symbol

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import


def _scale(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    pairs = either_order(inputs) if node.op_type == "Mul" else ((inputs[0], inputs[1]),)
    for x, other in pairs:
        if not isinstance(x, Heads | Scores):
            continue
        number = ctx.scalar(other)
        if number is None or (node.op_type == "Div" and number == 0):
            ctx.miss(
                "attention", node, "scores, queries or keys are scaled by something that is not one constant number"
            )
            return None
        factor = 1 / number if node.op_type == "Div" else number
        if isinstance(x, Heads):
            return [replace(x, factor=x.factor * factor) if x.grid is None else replace(x, after=x.after * factor)]
        if x.masked:
            ctx.miss("attention", node, "scores are scaled after they were masked")
            return None
        grid = None if x.grid is None else Grid(x.grid.scale * factor, x.grid.zero_point)
        return [replace(x, scale=x.scale * factor, grid=grid)]
    return None


def _product(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    a, b = inputs[0], inputs[1]
    if isinstance(a, Heads) and isinstance(b, Heads):
        if (a.axes, b.axes) != ("bhsd", "bhds") or (a.heads, a.head_dim) != (b.heads, b.head_dim):
            ctx.miss("attention", node, f"query axes {a.axes}, {a.heads} heads; key axes {b.axes}, {b.heads} heads")
            return None
        return [Scores(a, b, a.after * b.after)]
    if isinstance(a, Probabilities) and isinstance(b, Heads):
        query = a.scores.query
        if b.axes != "bhsd" or (b.heads, b.head_dim) != (query.heads, query.head_dim) or a.is_nan:
            ctx.miss(
                "attention",
                node,
                f"value axes {b.axes}, {b.heads} heads of {b.head_dim}; query {query.heads} of {query.head_dim}",
            )
            return None
        if b.factor * b.after != 1.0:
            ctx.miss("attention", node, "the value is scaled")
            return None
        return [Context(a, b)]
    return None


def _masked(ctx: Import, node: ir.Node, scores: Scores, addends: tuple[Array, ...]) -> list[Symbol] | None:
    reason = "the scores are masked twice" if scores.masked else mask.objection(ctx, addends, scores.query.heads)
    if reason is not None:
        ctx.miss("attention", node, f"the mask cannot be dropped: {reason}")
        return None
    return [replace(scores, masked=True)]


def _add(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    for scores, other in either_order(inputs):
        if isinstance(scores, Scores):
            addends = ctx.arrays(other)
            if addends is None:
                ctx.miss("attention", node, "the mask depends on more than attention_mask and shapes")
                return None
            return _masked(ctx, node, scores, addends)
    return None


def _where(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    condition, on_true, on_false = inputs
    if isinstance(condition, Probabilities) and condition.is_nan and isinstance(on_false, Probabilities):
        return [on_false] if ctx.scalar(on_true) == 0 else None
    scores, other, keep = (on_true, on_false, True) if isinstance(on_true, Scores) else (on_false, on_true, False)
    if not isinstance(scores, Scores):
        return None
    conditions, replacements = ctx.arrays(condition), ctx.arrays(other)
    if conditions is None or replacements is None:
        ctx.miss("attention", node, "the mask depends on more than attention_mask and shapes")
        return None
    pairs = zip(conditions, replacements, strict=True)
    return _masked(ctx, node, scores, tuple(np.where(np.asarray(c) == keep, np.float32(0), r) for c, r in pairs))


def _softmax(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    scores = inputs[0]
    if not isinstance(scores, Scores):
        return None
    if ctx.axis(node, 4) != 3:
        ctx.miss("attention", node, "the softmax is not over the keys")
        return None
    if ctx.mask_input is not None and not scores.masked:
        ctx.miss("attention", node, f"'{ctx.mask_input}' does not reach these scores: padding keys are attended to")
        return None
    return [Probabilities(scores, ctx.path(node))]


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    match node.op_type:
        case "Mul" | "Div":
            return _scale(ctx, node, inputs)
        case "MatMul":
            return _product(ctx, node, inputs)
        case "Add":
            return _add(ctx, node, inputs)
        case "Where":
            return _where(ctx, node, inputs)
        case "Softmax":
            return _softmax(ctx, node, inputs)
    x = inputs[0]  # IsNaN
    return [replace(x, is_nan=True)] if isinstance(x, Probabilities) else None


PATTERN = Pattern("attention", frozenset({"Mul", "Div", "MatMul", "Add", "Where", "Softmax", "IsNaN"}), match)
