"""What patterns see of an import in progress: the builder, the probes and a few questions about symbols."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from fastcpu.frontend.builder import Builder
from fastcpu.frontend.symbols import PROBES, Activation, Array, Constant, PositionBias, Probe, Probed, Shape, Symbol
from fastcpu.graph.trace import Trace


@dataclass
class Import:
    """The state of one walk over an ONNX graph."""

    builder: Builder
    opset: int
    trace: Trace
    prefix: str = ""
    per_token: bool = False
    """Whether DynamicQuantizeLinear may give every token a scale of its own; ``used_per_token`` once one did."""
    used_per_token: bool = False
    probes: tuple[Probe, ...] = PROBES
    mask_input: str | None = None
    biases: dict[tuple[int, int], tuple[Symbol, PositionBias]] = field(default_factory=dict)
    """The position biases found so far, by the identity of what is added to scores and the number of heads."""
    _emitted: dict[int, tuple[Symbol, Activation | None]] = field(default_factory=dict)

    def miss(self, pattern: str, node: ir.Node, reason: str) -> None:
        """Record why ``pattern`` does not take ``node``."""
        self.trace.miss(pattern, node.name or node.op_type, reason)

    def path(self, node: ir.Node) -> str:
        """The module that ``node`` comes from: ``/model/a.0/q/MatMul`` is in ``a.0.q`` (prefix ``model.``)."""
        name = node.name or node.outputs[0].name or node.op_type
        parts = [part for part in name.split("/") if part]
        dotted = ".".join(parts[:-1] if len(parts) > 1 else parts)
        return dotted.removeprefix(self.prefix)

    # ---- constants ----

    def arrays(self, symbol: Symbol | None) -> tuple[Array, ...] | None:
        """One array per probe for a constant or probed symbol."""
        if isinstance(symbol, Constant):
            return (symbol.array,) * len(self.probes)
        return symbol.arrays if isinstance(symbol, Probed) else None

    def constant(self, symbol: Symbol | None) -> Array | None:
        """The array of a symbol that is the same for every batch, sequence and mask."""
        arrays = self.arrays(symbol)
        if arrays is None:
            return None
        first = arrays[0]
        if all(array is first or (array.shape == first.shape and np.array_equal(array, first)) for array in arrays[1:]):
            return first
        return None

    def scalar(self, symbol: Symbol | None) -> float | None:
        """The number behind a symbol that holds one constant number."""
        array = self.constant(symbol)
        return float(array.reshape(())) if array is not None and array.size == 1 and array.ndim <= 1 else None

    def integers(self, symbol: Symbol | None) -> list[int] | None:
        """The constant integers behind a symbol."""
        array = self.constant(symbol)
        return [int(number) for number in array.reshape(-1)] if array is not None else None

    # ---- shapes ----

    def shapes(self, symbol: Symbol | None) -> tuple[Shape, ...] | None:
        """The shape of a symbol under each probe, None when it has none that is known."""
        shapes = [None if symbol is None else symbol.shape(probe) for probe in self.probes]
        known = tuple(shape for shape in shapes if shape is not None)
        return known if len(known) == len(shapes) else None

    def same_shape(self, symbol: Symbol | None, *reference: str | int) -> bool:
        """True when the shape of ``symbol`` is ``reference``: sizes, or "b" for the batch and "s" for the sequence."""
        shapes = self.shapes(symbol)
        expected = [
            tuple({"b": p.batch, "s": p.sequence}.get(d, d) if isinstance(d, str) else d for d in reference)
            for p in self.probes
        ]
        return shapes is not None and list(shapes) == expected

    def axis(self, node: ir.Node, rank: int, default: int = -1) -> int:
        """The attribute ``axis``, counted from the front."""
        attribute = node.attributes.get("axis")
        axis = default if attribute is None else attribute.as_int()
        return axis + rank if axis < 0 else axis

    def axes(self, node: ir.Node, symbol: Symbol | None, rank: int) -> list[int] | None:
        """Axes given as an attribute or as an input, counted from the front."""
        attribute = node.attributes.get("axes")
        axes = list(attribute.as_ints()) if attribute is not None else self.integers(symbol)
        return None if axes is None else [axis + rank if axis < 0 else axis for axis in axes]

    # ---- activations ----

    def activation(self, symbol: Symbol | None) -> Activation | None:
        """The runtime value of a symbol that can be one; the op of a complete pattern is emitted at its first use."""
        if symbol is None:
            return None
        if id(symbol) not in self._emitted:
            self._emitted[id(symbol)] = (symbol, symbol.emit(self))
        return self._emitted[id(symbol)][1]
