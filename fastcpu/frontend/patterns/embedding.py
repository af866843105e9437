"""Embeddings: Gathers of table rows by token id, token type or position, and their sum."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fastcpu.errors import GraphError
from fastcpu.frontend.patterns.pattern import Inputs, Pattern, either_order
from fastcpu.frontend.symbols import (
    Activation,
    Array,
    Constant,
    Input,
    Probe,
    Probed,
    QuantizedConstant,
    Shape,
    Symbol,
    probed,
)

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
        """The embedding op; what is the same for every token is folded into the smallest table."""
        if not self.terms:
            raise GraphError(f"embedding '{self.name}' is the same for every token")
        smallest = min(range(len(self.terms)), key=lambda i: self.terms[i][1].array.shape[0])
        row = np.float32(0) if self.row is None else self.row
        stored: list[tuple[Array, Array | None]] = []
        for i, (_, table) in enumerate(self.terms):
            rows = None if i == smallest else _integer_rows(table)
            stored.append((table.array, None) if rows is None else rows[:2])
            row = row if rows is None else row + rows[2]
        table = self.terms[smallest][1]
        rows = _integer_rows(table)
        whole = rows is None or rows[2] != 0 or np.any(row)
        stored[smallest] = (table.array + row, None) if whole or rows is None else rows[:2]
        terms = [
            (source, data, table.name.removeprefix(ctx.prefix), scale)
            for (source, table), (data, scale) in zip(self.terms, stored, strict=True)
        ]
        name = self.name.rpartition(".")[0] or self.name
        return ctx.builder.embedding(name, terms, self.channels)


@dataclass(frozen=True, eq=False)
class IntegerRows(Symbol):
    """Rows of an integer table before they are scaled: ``codes`` is a sum of one part, over integers."""

    codes: EmbeddingSum

    def shape(self, probe: Probe) -> Shape:
        return self.codes.shape(probe)

    def scaled(self, scale: Array, zero_point: Array) -> EmbeddingSum:
        """The real rows. ``scale`` has one number, or one per row of the table [V, 1]; ``zero_point`` has one."""

        def real(codes: Array) -> Array:
            return (codes.astype(np.int32) - zero_point.astype(np.int32)).astype(np.float32) * scale

        axis = None if scale.size == 1 else 0
        terms = tuple(
            (key, Constant(real(t.array), t.name, QuantizedConstant(t.array, scale.reshape(-1), zero_point, axis)))
            for key, t in self.codes.terms
        )
        return replace(
            self.codes, terms=terms, row=None if self.codes.row is None else real(self.codes.row).reshape(-1)
        )


def _integer_rows(table: Constant) -> tuple[Array, Array, np.float32] | None:
    """s8 rows, their scales [V] and what is to be added to every number; None for a table that has no such form."""
    quantized = table.quantized
    if quantized is None or quantized.axis not in (None, 0) or quantized.zero_point.size != 1:
        return None
    if quantized.data.dtype not in (np.int8, np.uint8):
        return None
    zero = int(quantized.zero_point.reshape(()))
    data, scale = quantized.data.astype(np.int16) - zero, quantized.scale.reshape(-1).astype(np.float32)
    offset = 0
    if data.min() < -128 or data.max() > 127:  # a zero point in the middle of the range leaves the rest to add
        middle = 128 if quantized.data.dtype == np.uint8 else 0
        data, offset = data + (zero - middle), middle - zero
        if scale.size > 1:
            return None
    return data.astype(np.int8), np.broadcast_to(scale, len(data)), np.float32(offset * scale[0])


def _gather(ctx: Import, node: ir.Node, inputs: Inputs) -> list[Symbol] | None:
    table, index = inputs[0], inputs[1]
    if not isinstance(table, Constant) or table.array.ndim != 2:
        return None
    integer = table.array.dtype in (np.int8, np.uint8)
    if table.array.dtype.kind != "f" and not integer:
        return None
    if ctx.axis(node, 2, 0) != 0:
        ctx.miss("embedding", node, "rows are gathered along another axis than the first")
        return None
    if isinstance(index, Input):
        found: EmbeddingSum | None = EmbeddingSum(((index.role, table),), table.array.shape[1], ctx.path(node))
    else:
        found = _gather_probed(ctx, node, table, index)
    return None if found is None else [IntegerRows(found) if integer else found]


def _scaled(rows: IntegerRows, scale: EmbeddingSum) -> EmbeddingSum | None:
    """Rows of integers times rows of one number each, both by the same index."""
    if scale.channels != 1 or [key for key, _ in rows.codes.terms] != [key for key, _ in scale.terms]:
        return None
    if not scale.terms:
        return None if scale.row is None else rows.scaled(scale.row, np.zeros(1, np.int8))
    (_, codes), (_, numbers) = rows.codes.terms[0], scale.terms[0]
    if scale.row is not None or len(codes.array) != len(numbers.array):
        return None
    return rows.scaled(numbers.array, np.zeros(1, np.int8))


def _gather_probed(ctx: Import, node: ir.Node, table: Constant, index: Symbol | None) -> EmbeddingSum | None:
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
        return replace(part, row=table.array[first])
    if not all((a == first + _positions(p, index.padding_id)).all() for a, p in zip(arrays, ctx.probes, strict=True)):
        what = "consecutive numbers" if index.padding_id is None else "those that padding tokens leave"
        ctx.miss("embedding", node, f"positions are not {what}")
        return None
    if not ctx.builder.number_positions(index.padding_id, rows - first):
        ctx.miss("embedding", node, "positions are counted in two ways")
        return None
    # The runtime counts positions from 0: row 0 of its table is the first that the file uses.
    return replace(part, terms=(("positions", _from_row(table, first)),))


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
    if quantized is not None:
        scale = quantized.scale if quantized.axis is None else quantized.scale[first:]
        quantized = (
            replace(quantized, data=quantized.data[first:], scale=scale) if quantized.axis in (None, 0) else None
        )
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
    if node.op_type == "Mul":
        for rows, scale in either_order(inputs):
            if isinstance(rows, IntegerRows) and isinstance(scale, EmbeddingSum):
                product = _scaled(rows, scale)
                return None if product is None else [product]
        return None
    a, b = inputs[0], inputs[1]
    if isinstance(a, EmbeddingSum) and isinstance(b, EmbeddingSum) and a.channels == b.channels:
        return [_sum(a, b)]
    return None


PATTERN = Pattern("embedding", frozenset({"Gather", "Equal", "Mul", "Add"}), match)
