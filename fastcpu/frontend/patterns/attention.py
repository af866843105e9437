"""Attention: scale, scores, mask, softmax and context. The op is emitted when ``heads`` merges the heads again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastcpu.frontend.patterns import mask
from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import (
    Array,
    Constant,
    Context,
    Grid,
    Heads,
    Probabilities,
    Probe,
    Probed,
    Scores,
    Symbol,
    probed,
)

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
        if x.masked or x.bias is not None:
            ctx.miss("attention", node, "scores are scaled after a mask or a position bias was added")
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


def added(ctx: Import, node: ir.Node, scores: Scores, addend: Constant | Probed) -> Scores | None:
    """Scores plus a mask, a position bias or both."""
    found = mask.read(ctx, addend, scores.query.heads, node.outputs[0].name or node.op_type)
    if isinstance(found, str):
        ctx.miss("attention", node, f"what is added to scores is no mask of padding: {found}")
        return None
    if (found.hides_padding and scores.masked) or (found.bias is not None and scores.bias is not None):
        ctx.miss("attention", node, "a second mask or position bias is added to scores")
        return None
    return replace(scores, masked=scores.masked or found.hides_padding, bias=scores.bias or found.bias)


def _add(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    for scores, other in either_order(inputs):
        if isinstance(scores, Scores):
            if not isinstance(other, Constant | Probed):
                ctx.miss("attention", node, "the mask depends on more than attention_mask and shapes")
                return None
            found = added(ctx, node, scores, other)
            return None if found is None else [found]
    return None


def _where(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    condition, on_true, on_false = inputs
    if isinstance(condition, Probabilities) and condition.is_nan and isinstance(on_false, Probabilities):
        return [on_false] if ctx.scalar(on_true) == 0 else None
    scores, other, keep = (on_true, on_false, True) if isinstance(on_true, Scores) else (on_false, on_true, False)
    if not isinstance(scores, Scores):
        return None
    if not isinstance(condition, Constant | Probed) or not isinstance(other, Constant | Probed):
        ctx.miss("attention", node, "the mask depends on more than attention_mask and shapes")
        return None
    decides, replaces = condition.at, other.at
    padding_ids = [s.padding_id for s in (condition, other) if isinstance(s, Probed) and s.padding_id is not None]

    def addend(probe: Probe) -> Array:
        return np.where(np.asarray(decides(probe)) == keep, np.float32(0), replaces(probe))

    found = added(ctx, node, scores, probed(addend, next(iter(padding_ids), None)))
    return None if found is None else [found]


def _softmax(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    scores = inputs[0]
    if not isinstance(scores, Scores):
        return None
    if ctx.axis(node, 4) != 3:
        ctx.miss("attention", node, "the softmax is not over the keys")
        return None
    probabilities = softmax(ctx, node, scores)
    return None if probabilities is None else [probabilities]


def softmax(ctx: Import, node: ir.Node, scores: Scores) -> Probabilities | None:
    """The probabilities of scores that padding cannot reach."""
    if ctx.mask_input is not None and not scores.masked:
        ctx.miss("attention", node, f"'{ctx.mask_input}' does not reach these scores: padding keys are attended to")
        return None
    return Probabilities(scores, ctx.path(node))


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
