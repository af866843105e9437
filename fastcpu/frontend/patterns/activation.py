"""Activation functions: Relu, Tanh, Gelu, and GELU written out as x * (1 + erf(x / sqrt(2))) / 2, in any order."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import Activation, Symbol

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Scaled(Symbol):
    """``source * factor``."""

    source: Activation
    factor: float


@dataclass(frozen=True)
class ErfTerm(Symbol):
    """``a * erf(source / sqrt(2)) + b``."""

    source: Activation
    a: float
    b: float


@dataclass(frozen=True)
class GeluPart(Symbol):
    """``factor * gelu(source)``."""

    source: Activation
    factor: float


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= _TOLERANCE * abs(b)


def _gelu(ctx: Import, node: ir.Node, part: GeluPart) -> list[Symbol]:
    """The op once its factor is 1, the unfinished part before that."""
    return (
        [ctx.builder.pointwise(f"{ctx.path(node)}.gelu", "gelu", part.source)] if _close(part.factor, 1.0) else [part]
    )


def _erf(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x = inputs[0]
    if isinstance(x, Scaled) and _close(x.factor, math.sqrt(0.5)):
        return [ErfTerm(x.source, 1.0, 0.0)]
    ctx.miss("activation", node, "the argument of Erf is not x / sqrt(2)")
    return None


def _scale(ctx: Import, node: ir.Node, x: Symbol | None, factor: float) -> list[Symbol] | None:
    if isinstance(x, ErfTerm):
        return [replace(x, a=x.a * factor, b=x.b * factor)]
    if isinstance(x, GeluPart):
        return _gelu(ctx, node, replace(x, factor=x.factor * factor))
    if isinstance(x, Scaled):
        return [replace(x, factor=x.factor * factor)]
    source = ctx.activation(x)
    return None if source is None else [Scaled(ctx.builder.f32(source), factor)]


def _product(ctx: Import, node: ir.Node, x: Symbol | None, term: ErfTerm) -> list[Symbol] | None:
    """``x * (a * erf + b)`` is ``2 a * gelu(x)`` where a = b."""
    factor = x.factor if isinstance(x, Scaled) else 1.0
    source = x.source if isinstance(x, Scaled) else ctx.activation(x)
    if source is None or ctx.builder.f32(source) != term.source or not _close(term.a, term.b):
        ctx.miss("activation", node, "a product with Erf that is not a GELU")
        return None
    return _gelu(ctx, node, GeluPart(term.source, 2 * term.a * factor))


def _binary(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type == "Div":
        number = ctx.scalar(inputs[1])
        return _scale(ctx, node, inputs[0], 1 / number) if number else None
    for x, other in either_order(inputs):
        number = ctx.scalar(other)
        if number is None:
            continue
        if node.op_type == "Mul":
            return _scale(ctx, node, x, number)
        if isinstance(x, ErfTerm):
            return [replace(x, b=x.b + number)]
    for x, other in either_order(inputs):
        if node.op_type == "Mul" and isinstance(other, ErfTerm):
            return _product(ctx, node, x, other)
    return None


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type == "Erf":
        return _erf(ctx, node, inputs)
    if node.op_type in ("Mul", "Div", "Add"):
        return _binary(ctx, node, inputs)
    x = ctx.activation(inputs[0])
    if x is None:
        return None
    if node.op_type == "Gelu":
        approximate = node.attributes.get("approximate")
        if approximate is not None and approximate.as_string() != "none":
            ctx.miss("activation", node, f"GELU with the approximation '{approximate.as_string()}'")
            return None
        return [ctx.builder.pointwise(f"{ctx.path(node)}.gelu", "gelu", x)]
    function = node.op_type.lower()
    name = f"{ctx.path(node)}.{function}"
    return [ctx.builder.pointwise(name, "relu" if function == "relu" else "tanh", x)]


PATTERN = Pattern("activation", frozenset({"Relu", "Tanh", "Gelu", "Erf", "Mul", "Div", "Add"}), match)
