"""LayerNormalization: the operator of opset 17, and the form that earlier opsets write out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import Activation, Constant, Probe, Shape, Symbol

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import


@dataclass(frozen=True, eq=False)
class NormPart(Symbol):
    """A LayerNorm written out, up to ``stage``."""

    source: Activation
    stage: Literal[
        "mean", "centered", "squared", "variance", "variance_eps", "deviation", "inverse", "normalized", "scaled"
    ]
    epsilon: float = 0.0
    gamma: Constant | None = None

    def shape(self, probe: Probe) -> Shape | None:
        whole = self.stage in ("centered", "squared", "normalized", "scaled")
        return self.source.shape(probe) if whole else None

    def emit(self, ctx: Import) -> Activation | None:
        """A missing scale is 1 and a missing shift 0."""
        if self.stage not in ("normalized", "scaled"):
            return None
        name = self.gamma.name if self.gamma is not None else self.source.value
        return _emit(ctx, self, name.rpartition(".")[0] or name, None)


def _vector(symbol: Symbol | None, channels: int) -> Constant | None:
    """A constant with one number per channel."""
    return symbol if isinstance(symbol, Constant) and symbol.array.size == channels == symbol.array.shape[-1] else None


def _filled(channels: int, number: float, name: str) -> Constant:
    return Constant(np.full(channels, number, np.float32), name)


def _emit(ctx: Import, part: NormPart, name: str, beta: Constant | None) -> Activation:
    channels = part.source.channels
    gamma = part.gamma or _filled(channels, 1.0, name)
    return ctx.builder.layernorm(name, part.source, gamma, beta or _filled(channels, 0.0, name), part.epsilon)


def _operator(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x = ctx.activation(inputs[0])
    if x is None:
        return None
    gamma = _vector(inputs[1], x.channels)
    beta = (
        _vector(inputs[2], x.channels)
        if len(inputs) > 2 and inputs[2] is not None
        else _filled(x.channels, 0.0, ctx.path(node))
    )
    rank = 3 if x.space == "tokens" else 2
    if gamma is None or beta is None or ctx.axis(node, rank) != rank - 1:
        ctx.miss("layernorm", node, f"it does not normalize the {x.channels} channels with a constant scale and shift")
        return None
    epsilon = node.attributes.get("epsilon")
    return [ctx.builder.layernorm(ctx.path(node), x, gamma, beta, 1e-5 if epsilon is None else epsilon.as_float())]


def _mean(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x = inputs[0]
    source = x.source if isinstance(x, NormPart) and x.stage == "squared" else ctx.activation(x)
    if source is None:
        return None
    rank = 3 if source.space == "tokens" else 2
    keepdims = node.attributes.get("keepdims")
    axes = ctx.axes(node, inputs[1] if len(inputs) > 1 else None, rank)
    if axes != [rank - 1] or (keepdims is not None and keepdims.as_int() == 0):
        ctx.miss("layernorm", node, f"a mean over axes {axes}")
        return None
    return [NormPart(source, "variance" if isinstance(x, NormPart) else "mean")]


def _binary(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    a, b = inputs[0], inputs[1]
    left = a if isinstance(a, NormPart) else None
    right = b if isinstance(b, NormPart) else None
    stages = (left.stage if left else None, right.stage if right else None)
    op = node.op_type
    if op == "Sub" and stages[1] == "mean" and right is not None:
        return [replace(right, stage="centered")] if ctx.activation(a) == right.source else None
    if op == "Pow" and stages[0] == "centered" and left is not None and ctx.scalar(b) == 2:
        return [replace(left, stage="squared")]
    if op == "Mul" and stages == ("centered", "centered") and left == right and left is not None:
        return [replace(left, stage="squared")]
    if op == "Div" and stages == ("centered", "deviation") and left is not None and right is not None:
        return [replace(right, stage="normalized")] if left.source == right.source else None
    if op == "Div" and stages[1] == "deviation" and right is not None and ctx.scalar(a) == 1:
        return [replace(right, stage="inverse")]
    if op in ("Mul", "Add"):
        for part, other in either_order(inputs):
            if isinstance(part, NormPart):
                result = _commutative(ctx, node, part, other)
                if result is not None:
                    return [result]
    return None


def _commutative(ctx: Import, node: ir.Node, part: NormPart, other: Symbol | None) -> Symbol | None:
    vector = _vector(other, part.source.channels)
    if node.op_type == "Add":
        number = ctx.scalar(other)
        if part.stage == "variance" and number is not None:
            return replace(part, stage="variance_eps", epsilon=number)
        if part.stage in ("normalized", "scaled") and vector is not None:
            return _emit(ctx, part, ctx.path(node), vector)
        return None
    if part.stage == "inverse" and ctx.scalar(other) == 1:
        return part  # torch writes rsqrt as 1 * Reciprocal(Sqrt)
    if (
        part.stage == "inverse"
        and isinstance(other, NormPart)
        and other.stage == "centered"
        and other.source == part.source
    ):
        return replace(part, stage="normalized")
    if part.stage == "normalized" and vector is not None:
        return replace(part, stage="scaled", gamma=vector)
    return None


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    match node.op_type:
        case "LayerNormalization":
            return _operator(ctx, node, inputs)
        case "ReduceMean":
            return _mean(ctx, node, inputs)
        case "Sqrt" | "Reciprocal":
            x = inputs[0]
            before, after = ("variance_eps", "deviation") if node.op_type == "Sqrt" else ("deviation", "inverse")
            if isinstance(x, NormPart) and x.stage == before:
                return [replace(x, stage="deviation" if after == "deviation" else "inverse")]
            return None
    return _binary(ctx, node, inputs)


PATTERN = Pattern(
    "layernorm",
    frozenset({"LayerNormalization", "ReduceMean", "Sub", "Pow", "Mul", "Add", "Sqrt", "Div", "Reciprocal"}),
    match,
)
