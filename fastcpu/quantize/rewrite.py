"""Small rewrites of a graph that the quantization schemes share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fastcpu.graph.ir import Graph, Node, Value


def copy_graph(graph: Graph) -> Graph:
    """A copy whose nodes and values can be rewritten; the constants' arrays are shared with the original."""
    nodes = [
        replace(n, inputs=list(n.inputs), outputs=list(n.outputs), tensors=dict(n.tensors), attrs=dict(n.attrs))
        for n in graph.nodes
    ]
    values = {name: replace(value) for name, value in graph.values.items()}
    return Graph(graph.name, list(graph.inputs), list(graph.outputs), values, dict(graph.tensors), nodes)


def drop_unused_tensors(graph: Graph) -> None:
    """Removes the tensors that no node names any more."""
    used = {name for node in graph.nodes for name in node.tensors.values()}
    graph.tensors = {name: tensor for name, tensor in graph.tensors.items() if name in used}


def insert_after(graph: Graph, additions: Mapping[str, Node]) -> None:
    """Puts each node right behind the producer of the value it is listed under."""
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(node)
        nodes.extend(additions[name] for name in node.outputs if name in additions)
    graph.nodes = nodes


def fresh_name(graph: Graph, wanted: str) -> str:
    """``wanted``, or with a number behind it if there is such a value already."""
    name, count = wanted, 1
    while name in graph.values:
        name, count = f"{wanted}.{count}", count + 1
    return name


def split_activations(graph: Graph, names: Iterable[str]) -> dict[str, str]:
    """Splits the named linears with an activation into a linear and a pointwise op, in place.

    Returns the new value before the activation for each output of such a linear.
    """
    wanted = set(names)
    before: dict[str, str] = {}
    additions: dict[str, Node] = {}
    for node in graph.nodes:
        if node.name not in wanted:
            continue
        output = node.outputs[0]
        inner = fresh_name(graph, f"{output}.before")
        graph.add_value(Value(inner, "f32", graph.values[output].space, graph.values[output].channels))
        additions[inner] = Node(
            "pointwise", f"{node.name}.activation", [inner], [output], {}, {"function": node.attrs["activation"]}
        )
        node.outputs = [inner]
        node.attrs["activation"] = "none"
        before[output] = inner
    insert_after(graph, additions)
    return before
