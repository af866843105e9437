"""The operator Attention of opset 23: the whole of it, on heads or on channels that it splits into heads itself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastcpu.frontend.patterns import heads
from fastcpu.frontend.patterns.attention import added, softmax
from fastcpu.frontend.patterns.pattern import Inputs, Pattern
from fastcpu.frontend.symbols import Array, Channels, Constant, Context, Heads, Probe, Probed, Scores, Symbol, probed

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

_UNUSED = ("past_key", "past_value", "nonpad_kv_seqlen")
"""The inputs from the fifth on."""


def _number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)


def _heads(ctx: Import, node: ir.Node, x: Symbol | None, count: int) -> Heads | None:
    """Heads [batch, heads, sequence, head size]; ``count`` of them where the operator has to split channels."""
    if isinstance(x, Heads):
        return x if x.axes == "bhsd" else None
    source = ctx.activation(x)
    part = Channels(source, 0, source.channels) if source is not None else x
    if not isinstance(part, Channels) or part.source.space != "tokens" or part.squeezed:
        return None
    channels = part.end - part.begin
    if count < 1 or channels % count:
        ctx.miss("attention", node, f"{channels} channels are not split into {count} heads")
        return None
    return Heads(part, count, channels // count, "bhsd")


def _masked(ctx: Import, node: ir.Node, scores: Scores, given: Symbol | None) -> Scores | None:
    """The scores with the mask of the operator: what it lets through if it is bool, an addend otherwise."""
    if given is None:
        return scores
    if not isinstance(given, Constant | Probed):
        ctx.miss("attention", node, "the mask depends on more than attention_mask and shapes")
        return None

    def addend(probe: Probe) -> Array:
        array = given.at(probe)
        return np.where(array, np.float32(0), np.float32(-np.inf)) if array.dtype == np.bool_ else array

    return added(ctx, node, scores, probed(addend, given.padding_id if isinstance(given, Probed) else None))


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    for name, given in zip(_UNUSED, inputs[4:], strict=False):
        if given is not None:
            ctx.miss("attention", node, f"its input {name} is not supported")
            return None
    for name in ("is_causal", "softcap", "qk_matmul_output_mode"):
        if _number(node, name, 0) != 0:
            ctx.miss("attention", node, f"its attribute {name} is not supported")
            return None
    if any(output.uses() for output in node.outputs[1:]):
        ctx.miss("attention", node, "more than its first output is used")
        return None
    counts = [int(_number(node, name, 0)) for name in ("q_num_heads", "kv_num_heads", "kv_num_heads")]
    q, k, v = (_heads(ctx, node, x, count) for x, count in zip(inputs[:3], counts, strict=True))
    if q is None or k is None or v is None:
        return None
    if (q.heads, q.head_dim) != (k.heads, k.head_dim) or (q.heads, q.head_dim) != (v.heads, v.head_dim):
        ctx.miss("attention", node, f"{q.heads} heads of queries, {k.heads} of keys, {v.heads} of values")
        return None
    if v.factor * v.after != 1.0:
        ctx.miss("attention", node, "the value is scaled")
        return None
    scale = _number(node, "scale", 1 / math.sqrt(q.head_dim)) * q.after * k.after
    scores = _masked(ctx, node, Scores(q, k, scale), inputs[3] if len(inputs) > 3 else None)
    probabilities = None if scores is None else softmax(ctx, node, scores)
    if probabilities is None:
        return None
    context = Context(probabilities, v)
    return [context] if isinstance(inputs[0], Heads) else [heads.emit(ctx, replace(context, axes="bshd"))]


PATTERN = Pattern("attention", frozenset({"Attention"}), match)
