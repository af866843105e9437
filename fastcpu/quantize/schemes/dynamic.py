"""Dynamic int8: each token's inputs of linears get their own scale at run time; needs no calibration.

Attention, activations and everything that linears write stay f32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from fastcpu.graph.edit import copy_graph, drop_unused_tensors, fresh_name
from fastcpu.graph.ir import Graph, Node, Value
from fastcpu.quantize.histogram import Histogram
from fastcpu.quantize.layers import Record, Selection, quantizable_linears, quantize_weights
from fastcpu.quantize.rewrite import insert_after
from fastcpu.quantize.scheme import Wanted


@dataclass(frozen=True)
class Dynamic:
    """Dynamic quantization and its options."""

    requires_calibration: ClassVar[bool] = False

    selection: Selection = field(default_factory=Selection)

    def wanted(self, graph: Graph) -> Wanted:
        quantizable_linears(graph, self.selection, Record())
        return Wanted()

    def apply(self, graph: Graph, _observed: Mapping[str, Histogram], /) -> tuple[Graph, Record]:
        return quantize_dynamic(graph, self)


def quantize_dynamic(graph: Graph, config: Dynamic) -> tuple[Graph, Record]:
    """The int8 form of an f32 graph: LayerNorm quantizes its own output, a `quantize` op what else linears read."""
    record = Record()
    graph = copy_graph(graph)
    linears = quantizable_linears(graph, config.selection, record)
    producers = {output: node for node in graph.nodes for output in node.outputs}
    quantized: dict[str, list[str]] = {}
    additions: dict[str, Node] = {}
    for node in linears:
        name = node.inputs[0]
        if name not in quantized:
            source, producer = graph.values[name], producers[name]
            scale = graph.add_value(Value(fresh_name(graph, f"{name}.scale"), "f32", source.space, 1))
            levels = Value(fresh_name(graph, f"{name}.u8"), "u8", source.space, source.channels, dynamic_scale=scale)
            quantized[name] = [graph.add_value(levels), scale]
            if producer.op == "layernorm" and len(producer.outputs) == 1:
                producer.outputs.extend(quantized[name])
            else:
                additions[name] = Node("quantize", f"{levels.name}.quantize", [name], list(quantized[name]))
        node.inputs = list(quantized[name])
    insert_after(graph, additions)
    quantize_weights(graph, linears)
    drop_unused_tensors(graph)
    return graph, record
