"""Embeddings: Gathers of table rows by token id, token type or position, and their sum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fastcpu.errors import GraphError
from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import Activation, Array, Constant, Input, Probe, Probed, Shape, Symbol, probed

if TYPE_CHECKING:
    import onnx_ir as ir

    from fastcpu.frontend.context import Import


@dataclass(frozen=True, eq=False)
class EmbeddingSum(Symbol):
    """A sum of table rows.

    ``terms`` pair the token value that indexes (``ids``, ``positions``, ``types``) with its table; ``row`` is constant.
    """

    terms: tuple[tuple[str, Constant], ...]
    channels: int
    name: str
    row: Array | None = None
    batched: bool = True

    def shape(self, probe: Probe) -> Shape:
        return (probe.batch if self.batched else 1, probe.sequence, self.channels)

    def emit(self, ctx: Import) -> Activation:
        """The embedding op; a constant row is folded into the smallest table."""
        if not self.terms:
            raise GraphError(f"embedding '{self.name}' is the same for every token")
        smallest = min(range(len(self.terms)), key=lambda i: self.terms[i][1].array.shape[0])
        terms: list[tuple[str, Array, str]] = []
        for i, (source, table) in enumerate(self.terms):
            array = table.array if self.row is None or i != smallest else table.array + self.row
            terms.append((source, array, table.name.removeprefix(ctx.prefix)))
        name = self.name.rpartition(".")[0] or self.name
        return ctx.builder.embedding(name, terms, self.channels)


def _gather(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    table, index = inputs[0], inputs[1]
    if not isinstance(table, Constant) or table.array.ndim != 2 or table.array.dtype.kind != "f":
        return None
    if ctx.axis(node, 2, 0) != 0:
        ctx.miss("embedding", node, "rows are gathered along another axis than the first")
        return None
    channels = table.array.shape[1]
    if isinstance(index, Input):
        return [EmbeddingSum(((index.role, table),), channels, ctx.path(node))]
    return _gather_probed(ctx, node, table, index)


def _gather_probed(ctx: Import, node: ir.Node, table: Constant, index: Symbol | None) -> list[Symbol] | None:
    """Rows for indices that depend on shapes and padding only: a constant row, or one row per position."""
    if not isinstance(index, Probed):
        return None
    channels = table.array.shape[1]
    arrays = index.arrays
    shapes = [np.broadcast_shapes(a.shape, (1, 1)) for a in arrays]
    batched = [shape == (p.batch, p.sequence) for shape, p in zip(shapes, ctx.probes, strict=True)]
    if not (all(batched) or all(shape == (1, p.sequence) for shape, p in zip(shapes, ctx.probes, strict=True))):
        return None
    part = EmbeddingSum((), channels, ctx.path(node), batched=all(batched))
    first, rows = min(int(a.min()) for a in arrays), table.array.shape[0]
    constant = all((a == first).all() for a in arrays)
    if not (-rows if constant else 0) <= first < rows:
        ctx.miss("embedding", node, f"row {first} of a table of {rows}")
        return None
    if constant:
        return [replace(part, row=table.array[first])]
    if not all((a == first + _positions(p, index.padding_id)).all() for a, p in zip(arrays, ctx.probes, strict=True)):
        what = "consecutive numbers" if index.padding_id is None else "those that padding tokens leave"
        ctx.miss("embedding", node, f"positions are not {what}")
        return None
    if not ctx.builder.number_positions(index.padding_id, rows - first):
        ctx.miss("embedding", node, "positions are counted in two ways")
        return None
    # The runtime counts positions from 0: row 0 of its table is the first that the file uses.
    return [replace(part, terms=(("positions", _from_row(table, first)),))]


def _positions(probe: Probe, padding_id: int | None) -> Array:
    """What ``unpad`` writes as positions, [batch or 1, sequence]."""
    if padding_id is None:
        return np.arange(probe.sequence)[None]
    others = ~probe.padding
    return np.asarray(np.cumsum(others, axis=1) * others)


def _which_are_padding(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    """Token ids that are compared with one number: that of the padding token."""
    for ids, other in either_order(inputs):
        number = ctx.integers(other)
        if isinstance(ids, Input) and ids.role == "ids" and number is not None:
            if len(number) == 1 and number[0] >= 0:
                return [probed(lambda probe: probe.padding, number[0])]
            ctx.miss("embedding", node, f"'{ids.name}' is compared with {number}")
    return None


def _from_row(table: Constant, first: int) -> Constant:
    """The rows of ``table`` from ``first`` on."""
    if first == 0:
        return table
    quantized = table.quantized
    if quantized is not None:  # scales per row are of no use to an embedding
        quantized = replace(quantized, data=quantized.data[first:]) if quantized.axis is None else None
    return Constant(table.array[first:], table.name, quantized)


def _sum(a: EmbeddingSum, b: EmbeddingSum) -> EmbeddingSum:
    rows = [part.row for part in (a, b) if part.row is not None]
    row = None if not rows else rows[0] if len(rows) == 1 else rows[0] + rows[1]
    return EmbeddingSum((*a.terms, *b.terms), a.channels, a.name, row, a.batched or b.batched)


def match(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    if node.op_type == "Gather":
        return _gather(ctx, node, inputs)
    if node.op_type == "Equal":
        return _which_are_padding(ctx, node, inputs)
    a, b = inputs[0], inputs[1]
    if isinstance(a, EmbeddingSum) and isinstance(b, EmbeddingSum) and a.channels == b.channels:
        return [_sum(a, b)]
    return None


PATTERN = Pattern("embedding", frozenset({"Gather", "Equal", "Add"}), match)
