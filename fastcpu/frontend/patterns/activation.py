"""Activation functions: Relu, Tanh, Gelu, and both GELUs written out, in any order.

GELU is x * (1 + erf(x / sqrt(2))) / 2; its approximation has tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)) for the erf.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import Activation, Symbol

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

Gelu = Literal["gelu", "gelu_tanh"]

_TOLERANCE = 1e-5
_DEGREE = 3


@dataclass(frozen=True)
class Polynomial(Symbol):
    """A polynomial of ``source``, with the coefficients of 1, x, x^2 and x^3."""

    source: Activation
    coefficients: tuple[float, ...]


@dataclass(frozen=True)
class Sigmoidal(Symbol):
    """``a * f + b`` with the erf of a GELU for ``f``, or the tanh of its approximation."""

    source: Activation
    function: Gelu
    a: float = 1.0
    b: float = 0.0


@dataclass(frozen=True)
class GeluPart(Symbol):
    """``factor * gelu(source)``."""

    source: Activation
    function: Gelu
    factor: float


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= _TOLERANCE * abs(b)


def _is(polynomial: Polynomial, *coefficients: float) -> bool:
    return all(_close(a, b) for a, b in zip(polynomial.coefficients, coefficients, strict=True))


def _polynomial(ctx: Import, x: Symbol | None) -> Polynomial | None:
    """A polynomial, or an activation as the polynomial x."""
    if isinstance(x, Polynomial):
        return x
    source = ctx.activation(x)
    return None if source is None else Polynomial(ctx.builder.f32(source), (0.0, 1.0, 0.0, 0.0))


def _gelu(ctx: Import, node: ir.Node, part: GeluPart) -> list[Symbol]:
    """The op once its factor is 1, the unfinished part before that."""
    if not _close(part.factor, 1.0):
        return [part]
    return [ctx.builder.pointwise(f"{ctx.path(node)}.gelu", part.function, part.source)]


def _scaled(ctx: Import, node: ir.Node, x: Symbol | None, factor: float) -> list[Symbol] | None:
    if isinstance(x, Sigmoidal):
        return [replace(x, a=x.a * factor, b=x.b * factor)]
    if isinstance(x, GeluPart):
        return _gelu(ctx, node, replace(x, factor=x.factor * factor))
    polynomial = _polynomial(ctx, x)
    if polynomial is None:
        return None
    return [replace(polynomial, coefficients=tuple(c * factor for c in polynomial.coefficients))]


def _powers(a: Polynomial, b: Polynomial) -> Polynomial | None:
    """The product of two polynomials; None beyond x^3."""
    product = [0.0] * (2 * _DEGREE + 1)
    for i, p in enumerate(a.coefficients):
        for j, q in enumerate(b.coefficients):
            product[i + j] += p * q
    return None if any(product[_DEGREE + 1 :]) else Polynomial(a.source, tuple(product[: _DEGREE + 1]))


def _product(ctx: Import, node: ir.Node, x: Symbol | None, other: Symbol | None) -> list[Symbol] | None:
    """``x * (a * f + b)`` is ``2 a * gelu(x)`` where a = b; two polynomials of one activation are a third."""
    if isinstance(other, Sigmoidal):
        polynomial = _polynomial(ctx, x)
        if polynomial is None:
            return None
        factor = polynomial.coefficients[1]
        if polynomial.source != other.source or not _is(polynomial, 0, factor, 0, 0) or not _close(other.a, other.b):
            ctx.miss("activation", node, "a product with erf or tanh that is not a GELU")
            return None
        return _gelu(ctx, node, GeluPart(other.source, other.function, 2 * other.a * factor))
    if x is not other and not isinstance(x, Polynomial) and not isinstance(other, Polynomial):
        return None
    a, b = _polynomial(ctx, x), _polynomial(ctx, other)
    product = _powers(a, b) if a is not None and b is not None and a.source == b.source else None
    return None if product is None else [product]


def _sum(ctx: Import, x: Symbol | None, other: Symbol | None) -> list[Symbol] | None:
    """Polynomials of one activation, one of them a polynomial already, or a polynomial and a number."""
    if not isinstance(x, Polynomial):
        return None
    number = ctx.scalar(other)
    second = _polynomial(ctx, other) if number is None else Polynomial(x.source, (number, 0.0, 0.0, 0.0))
    if second is None or second.source != x.source:
        return None
    return [replace(x, coefficients=tuple(p + q for p, q in zip(x.coefficients, second.coefficients, strict=True)))]


def _function(ctx: Import, node: ir.Node, x: Symbol | None) -> list[Symbol] | None:
    """The erf or tanh of a polynomial that a GELU has."""
    if node.op_type == "Erf":
        if isinstance(x, Polynomial) and _is(x, 0, math.sqrt(0.5), 0, 0):
            return [Sigmoidal(x.source, "gelu")]
        ctx.miss("activation", node, "the argument of Erf is not x / sqrt(2)")
        return None
    if not isinstance(x, Polynomial):
        return None
    slope = math.sqrt(2 / math.pi)
    if _is(x, 0, slope, 0, 0.044715 * slope):
        return [Sigmoidal(x.source, "gelu_tanh")]
    ctx.miss("activation", node, "the argument of Tanh is neither an activation nor that of a GELU")
    return None


def _binary(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type == "Div":
        number = ctx.scalar(inputs[1])
        return _scaled(ctx, node, inputs[0], 1 / number) if number else None
    if node.op_type == "Pow":
        return _power(ctx, inputs)
    for x, other in either_order(inputs):
        number = ctx.scalar(other)
        if number is not None and node.op_type == "Mul":
            return _scaled(ctx, node, x, number)
        if number is not None and isinstance(x, Sigmoidal):
            return [replace(x, b=x.b + number)]
    for x, other in either_order(inputs):
        found = _product(ctx, node, x, other) if node.op_type == "Mul" else _sum(ctx, x, other)
        if found is not None:
            return found
    return None


def _power(ctx: Import, inputs: Inputs) -> list[Symbol] | None:
    """The square or the cube of an activation."""
    x, exponent = _polynomial(ctx, inputs[0]), ctx.scalar(inputs[1])
    if x is None or isinstance(inputs[0], Polynomial) or exponent not in (2, 3):
        return None
    return [replace(x, coefficients=(0.0, 0.0, 1.0, 0.0) if exponent == 2 else (0.0, 0.0, 0.0, 1.0))]


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type in ("Mul", "Div", "Add", "Pow"):
        return _binary(ctx, node, inputs)
    if node.op_type == "Erf" or isinstance(inputs[0], Polynomial):
        return _function(ctx, node, inputs[0]) if node.op_type in ("Erf", "Tanh") else None
    x = ctx.activation(inputs[0])
    if x is None:
        return None
    name = f"{ctx.path(node)}.{node.op_type.lower()}"
    match node.op_type:
        case "Relu":
            return [ctx.builder.pointwise(name, "relu", x)]
        case "Tanh":
            return [ctx.builder.pointwise(name, "tanh", x)]
    attribute = node.attributes.get("approximate")
    approximate = "none" if attribute is None else attribute.as_string()
    if approximate not in ("none", "tanh"):
        ctx.miss("activation", node, f"GELU with the approximation '{approximate}'")
        return None
    return [ctx.builder.pointwise(name, "gelu" if approximate == "none" else "gelu_tanh", x)]


PATTERN = Pattern("activation", frozenset({"Relu", "Tanh", "Gelu", "Erf", "Mul", "Div", "Add", "Pow"}), match)
