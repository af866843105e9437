"""Heads: Reshape and Transpose before and after attention. Merging the heads emits the attention op."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastcpu.frontend.patterns.pattern import Inputs, Pattern
from fastcpu.frontend.symbols import Activation, Channels, Context, Heads, Probe, Symbol, source_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import
    from fastcpu.frontend.symbols import Shape


@dataclass(frozen=True)
class FlatHeads(Symbol):
    """Heads with their first two axes in one, as some exporters transpose keys."""

    source: Heads

    def shape(self, probe: Probe) -> Shape:
        first, second, *others = self.source.shape(probe)
        return (first * second, *others)


def reshaped(ctx: Import, node: ir.Node, inputs: Inputs) -> tuple[Shape, ...] | None:
    """The shape that a Reshape gives, under each probe."""
    before, targets = ctx.shapes(inputs[0]), ctx.arrays(inputs[1])
    if before is None or targets is None:
        return None
    allowzero = node.attributes.get("allowzero")
    copies = allowzero is None or allowzero.as_int() == 0
    result = []
    for shape, target in zip(before, targets, strict=True):
        sizes = [int(size) for size in target]
        sizes = [shape[i] if size == 0 and copies and i < len(shape) else size for i, size in enumerate(sizes)]
        total = known = 1
        for size in shape:
            total *= size
        for size in sizes:
            known *= 1 if size == -1 else size
        result.append(tuple(total // known if size == -1 and known else size for size in sizes))
    return tuple(result)


def _split(ctx: Import, node: ir.Node, source: Channels, after: tuple[Shape, ...]) -> list[Symbol] | None:
    channels = source.end - source.begin
    sizes = {shape[2:] for shape in after}
    leading = [shape[:2] for shape in after] == [(probe.batch, probe.sequence) for probe in ctx.probes]
    if not leading or len(sizes) != 1 or len(after[0]) != 4:
        ctx.miss(
            "heads",
            node,
            f"[batch, sequence, {channels}] becomes {after[0]} for batch, sequence = {ctx.probes[0].mask.shape}",
        )
        return None
    heads, head_dim = next(iter(sizes))
    return [Heads(source, heads, head_dim)]


def _reshape(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x, after = inputs[0], reshaped(ctx, node, inputs)
    if after is None:
        return None
    if isinstance(x, Context):
        expected = tuple((p.batch, p.sequence, x.value.heads * x.value.head_dim) for p in ctx.probes)
        if x.axes != "bshd" or after != expected:
            ctx.miss("heads", node, f"attention with axes {x.axes} becomes {after[0]}")
            return None
        return [emit(ctx, x)]
    if isinstance(x, Heads | FlatHeads):
        other = FlatHeads(x) if isinstance(x, Heads) else x.source
        return [other] if after == ctx.shapes(other) else None
    first_token = source_of(x, "first_token")
    if first_token is not None:
        pooled = after == tuple((p.batch, first_token.channels) for p in ctx.probes)
        return [ctx.builder.pool("cls", first_token)] if pooled else None
    source = ctx.activation(x)
    if source is not None:
        x = Channels(source, 0, source.channels)
    if isinstance(x, Channels) and x.source.space == "tokens" and not x.squeezed:
        return _split(ctx, node, x, after)
    return None


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type == "Reshape":
        return _reshape(ctx, node, inputs)
    x = inputs[0]
    if isinstance(x, Heads | Context):
        given = node.attributes.get("perm")
        permutation = list(reversed(range(4))) if given is None else list(given.as_ints())
        if sorted(permutation) != list(range(4)):
            ctx.miss("heads", node, f"{permutation} does not permute 4 axes")
            return None
        return [replace(x, axes="".join(x.axes[i] for i in permutation))]
    if isinstance(x, FlatHeads) and (given := node.attributes.get("perm")) is not None:
        if list(given.as_ints()) == [0, 2, 1]:
            axes = x.source.axes
            return [FlatHeads(replace(x.source, axes=axes[:2] + axes[3] + axes[2]))]
        ctx.miss("heads", node, "heads in one axis with the batch are transposed in another way than [0, 2, 1]")
    return None


def emit(ctx: Import, context: Context) -> Activation:
    """The attention op; ``attention_qdq`` where the file quantizes inside it."""
    probabilities, value = context.probabilities, context.value
    scores = probabilities.scores
    parts = {"q": scores.query, "k": scores.key, "v": value}
    inputs = [ctx.builder.f32(part.source.source).value for part in parts.values()]
    attrs: dict[str, Any] = {"heads": value.heads, "kv_heads": value.heads, "head_dim": value.head_dim}
    attrs |= {f"{role}_offset": part.source.begin for role, part in parts.items()}
    grids = {role: part.grid for role, part in parts.items()} | {
        "score": scores.grid,
        "probability": probabilities.grid,
    }
    if any(grid is not None for grid in grids.values()):
        attrs |= {"q_factor": parts["q"].factor, "k_factor": parts["k"].factor, "scale": scores.scale}
        for role, grid in grids.items():
            if grid is not None:
                attrs |= {f"{role}_scale": grid.scale, f"{role}_zero_point": grid.zero_point}
        op = "attention_qdq"
    else:
        attrs |= {"scale": parts["q"].factor * parts["k"].factor * scores.scale, "causal": False}
        op = "attention"
    channels = value.heads * value.head_dim
    result = ctx.builder.attention(op, probabilities.name, inputs, channels, scores.bias, **attrs)
    for grid in context.grids:
        result = result if result.grid == grid else replace(ctx.builder.f32(result), grid=grid)
    return result


PATTERN = Pattern("heads", frozenset({"Reshape", "Transpose"}), match)
