"""Residual additions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.frontend.patterns.pattern import Inputs, Pattern
from fastcpu.frontend.symbols import Symbol

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    a, b = ctx.activation(inputs[0]), ctx.activation(inputs[1])
    if a is None or b is None:
        return None
    if (a.space, a.channels) != (b.space, b.channels):
        ctx.miss("residual", node, f"{a.channels} channels of {a.space} plus {b.channels} of {b.space}")
        return None
    return [ctx.builder.add(f"{ctx.path(node)}.add", a, b)]


PATTERN = Pattern("residual", frozenset({"Add"}), match)
