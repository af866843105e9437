"""Nodes that change nothing: Identity, Dropout, a Concat of one value, a Cast to the same type, and Reshape, Expand and
Slice to the same shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir

from fastcpu.frontend.patterns.heads import reshaped
from fastcpu.frontend.patterns.pattern import Inputs, Pattern
from fastcpu.frontend.symbols import Input, Symbol, source_of

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

_INT32_MAX = 2**31 - 1


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    x = inputs[0]
    if x is None:
        return None
    same = False
    if node.op_type in ("Identity", "Dropout"):
        same = True
    elif node.op_type == "Concat":
        same = len(inputs) == 1
    elif node.op_type == "Cast":
        to = onnx_ir.DataType(node.attributes["to"].as_int())
        integers = (onnx_ir.DataType.INT32, onnx_ir.DataType.INT64)
        same = to in integers if isinstance(x, Input) else to == onnx_ir.DataType.FLOAT
        if not same and isinstance(x, Input):
            hint = f"'{x.name}' indexes an embedding (exported with one tensor for two inputs, it stands for both)"
            ctx.miss("identity", node, f"a cast to {to.name}: {hint}")
        elif not same:
            ctx.miss("identity", node, f"a cast to {to.name}")
    elif node.op_type == "Reshape":
        before, after = ctx.shapes(x), reshaped(ctx, node, inputs)
        same = before is not None and before == after
    elif node.op_type == "Expand":
        shapes, targets = ctx.shapes(x), ctx.arrays(inputs[1])
        pairs = [] if shapes is None or targets is None else list(zip(shapes, targets, strict=True))
        same = source_of(x, "norm") is not None or (
            bool(pairs) and all(_covers(shape, [int(n) for n in target]) for shape, target in pairs)
        )
    elif node.op_type == "Slice":
        starts, ends = ctx.integers(inputs[1]), ctx.integers(inputs[2])
        steps = [1] if len(inputs) < 5 or inputs[4] is None else ctx.integers(inputs[4])
        whole = starts is not None and ends is not None and steps is not None
        same = whole and set(starts or []) == {0} and set(steps or []) == {1} and min(ends or [0]) >= _INT32_MAX
    return [x] if same else None


def _covers(shape: tuple[int, ...], target: list[int]) -> bool:
    """True when broadcasting ``shape`` with ``target`` leaves it as it is."""
    if len(target) > len(shape):
        return False
    return all(size in (1, own) for own, size in zip(shape[len(shape) - len(target) :], target, strict=True))


PATTERN = Pattern("identity", frozenset({"Identity", "Dropout", "Concat", "Cast", "Reshape", "Expand", "Slice"}), match)
