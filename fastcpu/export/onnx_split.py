"""Undoes fastcpu.graph.passes.merge_qkv: other engines look for one linear each for q, k and v."""

from __future__ import annotations

from dataclasses import replace

from fastcpu.graph.edit import copy_graph
from fastcpu.graph.ir import Graph, Node, Quantization, Tensor, Value

_MERGED_ATTRS = ("q_scale", "q_zero_point", "k_scale", "v_scale")


def split_qkv(graph: Graph) -> Graph:
    """A copy in which a linear whose output is q, k and v of one attention is three linears."""
    graph = copy_graph(graph)
    for attention in list(graph.nodes):
        if attention.op != "attention" or len(set(attention.inputs)) != 1:
            continue
        merged = graph.values[attention.inputs[0]]
        linear = graph.producer(merged.name)
        only_reader = len(list(graph.consumers(merged.name))) == 1
        if linear is None or linear.op != "linear" or linear.attrs.get("activation", "none") != "none":
            continue
        if only_reader:
            _split(graph, attention, linear, merged)
    return graph


def _split(graph: Graph, attention: Node, linear: Node, merged: Value) -> None:
    heads, head_dim = attention.attrs["heads"], attention.attrs["head_dim"]
    kv_heads = attention.attrs.get("kv_heads", heads)
    parts: list[Node] = []
    for role, count in zip("qkv", (heads, kv_heads, kv_heads), strict=True):
        first = attention.attrs.pop(f"{role}_offset", 0)
        rows = slice(first, first + count * head_dim)
        name = f"{linear.name}.{role}"
        tensors = {}
        for key, source in linear.tensors.items():
            tensor = graph.tensors[source]
            scale = None if tensor.scale is None else tensor.scale[rows]
            tensors[key] = graph.add_tensor(Tensor(f"{source}.{role}", tensor.data[rows], scale, tensor.encoding))
        quantization = None if merged.quantization is None else _at(merged.quantization, first)
        value = replace(merged, name=f"{merged.name}.{role}", channels=count * head_dim, quantization=quantization)
        parts.append(replace(linear, name=name, outputs=[graph.add_value(value)], tensors=tensors))
    for name in _MERGED_ATTRS:
        attention.attrs.pop(name, None)
    attention.inputs = [part.outputs[0] for part in parts]
    place = next(index for index, node in enumerate(graph.nodes) if node is linear)
    graph.nodes[place : place + 1] = parts


def _at(quantization: Quantization, channel: int) -> Quantization:
    """The scale and zero point of a channel."""
    scale, zero_point = quantization.scale, quantization.zero_point
    for first, group_scale, group_zero_point in quantization.groups:
        if first <= channel:
            scale, zero_point = group_scale, group_zero_point
    return Quantization(scale, zero_point)
