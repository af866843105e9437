"""The type of a pattern."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastcpu.frontend.symbols import Symbol

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import

Inputs = Sequence["Symbol | None"]
Match = Callable[["Import", "ir.Node", Inputs], "list[Symbol] | None"]


@dataclass(frozen=True)
class Pattern:
    """``match`` is asked about nodes whose operator is in ``ops``; about all of them when that is None."""

    name: str
    ops: frozenset[str] | None
    match: Match


def either_order(inputs: Inputs) -> tuple[tuple[Symbol | None, Symbol | None], ...]:
    """The two inputs of a commutative operator, both ways round."""
    a, b = inputs[0], inputs[1]
    return ((a, b), (b, a))
