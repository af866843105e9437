"""Parts of an activation: Split, Slice, Gather and Squeeze of its channels, and its first token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastcpu.frontend.patterns.pattern import Inputs, Pattern
from fastcpu.frontend.symbols import Activation, Channels, Derived, Symbol, source_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import


def _rank(x: Activation) -> int:
    return 3 if x.space == "tokens" else 2


def _split(ctx: Import, node: ir.Node, x: Activation, inputs: Inputs) -> list[Symbol] | None:
    if ctx.axis(node, _rank(x), 0) != _rank(x) - 1:
        ctx.miss("channels", node, "a split of something other than the channels")
        return None
    attribute = node.attributes.get("split")
    sizes = list(attribute.as_ints()) if attribute is not None else ctx.integers(inputs[1]) if len(inputs) > 1 else None
    if sizes is None:
        chunk = -(-x.channels // len(node.outputs))
        sizes = [min(chunk, x.channels - chunk * i) for i in range(len(node.outputs))]
    if len(sizes) != len(node.outputs) or sum(sizes) != x.channels or min(sizes) < 1:
        ctx.miss("channels", node, f"a split of {x.channels} channels into {sizes}")
        return None
    parts: list[Symbol] = []
    begin = 0
    for size in sizes:
        parts.append(Channels(x, begin, begin + size))
        begin += size
    return parts


def _slice(ctx: Import, node: ir.Node, x: Activation, inputs: Inputs) -> list[Symbol] | None:
    starts, ends = ctx.integers(inputs[1]), ctx.integers(inputs[2])
    axes = ctx.axes(node, inputs[3] if len(inputs) > 3 else None, _rank(x))
    steps = ctx.integers(inputs[4]) if len(inputs) > 4 and inputs[4] is not None else [1]
    if starts is None or ends is None or axes is None or len(axes) != 1 or steps != [1]:
        ctx.miss("channels", node, "a slice that is not a constant range of one axis")
        return None
    axis, begin, end = axes[0], starts[0], ends[0]
    if axis == _rank(x) - 1:
        begin, end = (max(0, min(n + x.channels if n < 0 else n, x.channels)) for n in (begin, end))
        if begin < end:
            return [Channels(x, begin, end)]
    if axis == 1 and (begin, end) == (0, 1):
        return [Derived(x, "first_token")]
    ctx.miss("channels", node, f"a slice of axis {axis}, {begin} to {end}")
    return None


def _gather(ctx: Import, node: ir.Node, x: Activation, inputs: Inputs) -> list[Symbol] | None:
    index = ctx.constant(inputs[1])
    axis = ctx.axis(node, _rank(x), 0)
    if index is None or index.size != 1 or index.ndim > 1:
        ctx.miss("channels", node, "a gather with more than one constant index")
        return None
    number = int(index.reshape(()))
    if axis == _rank(x) - 1 and -x.channels <= number < x.channels:
        channel = number % x.channels
        return [Channels(x, channel, channel + 1, squeezed=index.ndim == 0)]
    if axis == 1 and number == 0:
        return [ctx.builder.pool("cls", x) if index.ndim == 0 else Derived(x, "first_token")]
    ctx.miss("channels", node, f"a gather of index {number} from axis {axis}")
    return None


def _squeeze(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x = inputs[0]
    axes_input = inputs[1] if len(inputs) > 1 else None
    first_token = source_of(x, "first_token")
    if first_token is not None and ctx.axes(node, axes_input, 3) == [1]:
        return [ctx.builder.pool("cls", first_token)]
    source = x if isinstance(x, Activation) else None
    part = Channels(source, 0, source.channels) if source is not None else x
    if isinstance(part, Channels) and part.end - part.begin == 1 and not part.squeezed:
        rank = _rank(part.source)
        if ctx.axes(node, axes_input, rank) == [rank - 1]:
            return [replace(part, squeezed=True)]
    return None


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type == "Squeeze":
        return _squeeze(ctx, node, inputs)
    x = ctx.activation(inputs[0])
    if x is None:
        return None
    if node.op_type == "Split":
        return _split(ctx, node, x, inputs)
    if x.space != "tokens" and node.op_type == "Gather" and ctx.axis(node, 2, 0) != 1:
        return None
    return _slice(ctx, node, x, inputs) if node.op_type == "Slice" else _gather(ctx, node, x, inputs)


PATTERN = Pattern("channels", frozenset({"Split", "Slice", "Gather", "Squeeze"}), match)
