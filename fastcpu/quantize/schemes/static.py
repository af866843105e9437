"""Static int8: every u8 value has a scale and zero point fixed by calibration.

The residual stream and the inputs of LayerNorm stay f32. u8 are: what a linear reads (a second output of LayerNorm, the
output of attention or of an activation table, or a `quantize` op), and q, k, v.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import QuantizationError
from fastcpu.graph.edit import copy_graph, drop_unused_tensors, fresh_name
from fastcpu.graph.ir import Graph, Node, Quantization, Tensor, Value
from fastcpu.graph.limits import MAX_U8_HEAD_DIM, U8_HEAD_DIM_UNIT
from fastcpu.quantize.histogram import Histogram
from fastcpu.quantize.layers import Record, Selection, quantizable_linears, quantize_weights
from fastcpu.quantize.observers import Observer
from fastcpu.quantize.observers.mse import Mse
from fastcpu.quantize.ranges import quantization, relative_squared_error
from fastcpu.quantize.rewrite import insert_after, smooth_layernorm
from fastcpu.quantize.scheme import Wanted
from fastcpu.quantize.table import fit_table


@dataclass
class Plan:
    """Who becomes u8, decided on the f32 graph before anything is rewritten."""

    linears: dict[str, Node]
    edges: dict[str, Node]
    """Values that quantized linears read -> the node that produces them."""
    attentions: list[Node]
    """Attention ops that run in u8."""
    direct: set[str]
    """Edges that their producer writes as u8 only, since nobody needs them in f32."""


def make_plan(graph: Graph, selection: Selection, record: Record) -> Plan:
    linears = {node.name: node for node in quantizable_linears(graph, selection, record)}
    producers = {output: node for node in graph.nodes for output in node.outputs}
    readers: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(node)

    def feeds_u8_attention(name: str) -> bool:
        producer = producers[name]
        return (
            producer.name in linears and producer.attrs.get("activation", "none") == "none" and len(readers[name]) == 1
        )

    attentions = []
    for node in graph.nodes:
        if node.op != "attention" or graph.values[node.inputs[0]].dtype != "f32":
            continue
        head_dim = node.attrs["head_dim"]
        fits = head_dim % U8_HEAD_DIM_UNIT == 0 and head_dim <= MAX_U8_HEAD_DIM
        separate = len(set(node.inputs)) == 3
        if fits and separate and all(map(feeds_u8_attention, node.inputs)):
            attentions.append(node)

    edges = {node.inputs[0]: producers[node.inputs[0]] for node in linears.values()}
    u8_attentions = {node.name for node in attentions}
    direct = {
        name
        for name, producer in edges.items()
        if (producer.name in linears or producer.name in u8_attentions)
        and all(node.name in linears for node in readers[name])
    }
    return Plan(linears, edges, attentions, direct)


def tables_of(plan: Plan) -> dict[str, Node]:
    """The linears that get an activation table, by their output value."""
    return {
        name: plan.edges[name]
        for name in sorted(plan.direct)
        if plan.edges[name].op == "linear" and plan.edges[name].attrs.get("activation", "none") != "none"
    }


@dataclass(frozen=True)
class Static:
    """Static quantization and its options.

    ``smooth`` [channels] of some values that layernorms write: what their u8 form is divided by and the weights that
    read it multiplied with (`fastcpu.quantize.smoothing`).
    """

    requires_calibration: ClassVar[bool] = True

    observer: Observer = field(default_factory=Mse)
    selection: Selection = field(default_factory=Selection)
    smooth: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def wanted(self, graph: Graph) -> Wanted:
        plan = make_plan(graph, self.selection, Record())
        tables = tables_of(plan)
        values = [name for name in plan.edges if name not in tables]
        values += [name for node in plan.attentions for name in node.inputs]
        return Wanted(list(dict.fromkeys(values)), [node.name for node in tables.values()], self.smooth)

    def apply(self, graph: Graph, observed: Mapping[str, Histogram], /) -> tuple[Graph, Record]:
        return quantize_static(graph, observed, self)


def quantize_static(graph: Graph, observed: Mapping[str, Histogram], config: Static) -> tuple[Graph, Record]:
    """The int8 form of an f32 graph, from the statistics of what `Static.wanted` lists."""
    record = Record()
    graph = copy_graph(graph)
    plan = make_plan(graph, config.selection, record)
    tables = tables_of(plan)

    def histogram(name: str) -> Histogram:
        if name not in observed:
            raise QuantizationError(f"value '{name}' was not observed")
        return observed[name]

    def range_of(name: str, is_symmetric: bool = False) -> Quantization:
        seen = histogram(name)
        return quantization(*config.observer.limits(seen, is_symmetric), is_symmetric)

    def note(value: str, chosen: Quantization, seen: Histogram) -> None:
        record.note(value, chosen, seen, relative_squared_error(*seen.points(), chosen))

    def make_u8(name: str, chosen: Quantization) -> None:
        graph.values[name].dtype = "u8"
        graph.values[name].quantization = chosen

    for node in plan.attentions:
        for name, is_symmetric in zip(node.inputs, (False, True, True), strict=True):
            chosen = range_of(name, is_symmetric)
            make_u8(name, chosen)
            note(name, chosen, histogram(name))

    for name, node in tables.items():
        seen = histogram(name)
        fitted = fit_table(node.attrs["activation"], seen, config.observer.limits(seen, False))
        make_u8(name, fitted.output)
        record.note(name, fitted.output, error=fitted.error)
        record.note(f"{name} before {node.attrs['activation']}", fitted.input, seen)
        node.tensors["table"] = graph.add_tensor(Tensor(f"{node.name}.table", fitted.table))
        node.attrs["activation"] = "table"
        node.attrs["table_scale"] = fitted.input.scale
        node.attrs["table_zero_point"] = fitted.input.zero_point

    renamed: dict[str, str] = {}
    scaled: set[str] = set()
    additions: dict[str, Node] = {}
    for name, producer in plan.edges.items():
        if name in tables:
            continue
        chosen = range_of(name)
        if name in plan.direct:
            make_u8(name, chosen)
            note(name, chosen, histogram(name))
            continue
        source = graph.values[name]
        renamed[name] = fresh_name(graph, f"{name}.u8")
        graph.add_value(Value(renamed[name], "u8", source.space, source.channels, chosen))
        note(renamed[name], chosen, histogram(name))
        if producer.op == "layernorm" and len(producer.outputs) == 1:
            producer.outputs.append(renamed[name])
            if name in config.smooth:
                readers = [node for node in plan.linears.values() if node.inputs[0] == name]
                smooth_layernorm(graph, producer, config.smooth[name], readers, scaled)
        else:
            additions[name] = Node("quantize", f"{renamed[name]}.quantize", [name], [renamed[name]])
    for node in plan.linears.values():
        node.inputs[0] = renamed.get(node.inputs[0], node.inputs[0])
    insert_after(graph, additions)
    quantize_weights(graph, list(plan.linears.values()))
    drop_unused_tensors(graph)
    return graph, record
