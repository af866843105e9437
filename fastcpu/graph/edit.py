"""What rewrites of a graph share: a copy to work on, names that are free, and the removal of what nobody names."""

from __future__ import annotations

from dataclasses import replace

from fastcpu.graph.ir import Graph


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


def fresh_name(graph: Graph, wanted: str) -> str:
    """``wanted``, or with a number behind it if a value, tensor or node has this name already."""
    taken = {*graph.values, *graph.tensors, *(node.name for node in graph.nodes)}
    name, count = wanted, 1
    while name in taken:
        name, count = f"{wanted}.{count}", count + 1
    return name
