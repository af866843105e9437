"""Removes ops whose results nobody reads, and the values and tensors that nobody names."""

from __future__ import annotations

from fastcpu.graph.edit import drop_unused_tensors
from fastcpu.graph.ir import Graph, Node
from fastcpu.graph.trace import Trace


def run(graph: Graph, trace: Trace) -> int:
    """Keep what the outputs need. ``unpad`` writes all its values, needed or not."""
    needed = {output.value for output in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.op == "unpad" or any(name in needed for name in node.outputs):
            kept.append(node)
            needed.update(node.inputs)
            needed.update(node.outputs)
        else:
            trace.note("remove_dead", node.name, "removed, since no output needs it")
    removed = len(graph.nodes) - len(kept)
    graph.nodes = kept[::-1]
    graph.values = {name: value for name, value in graph.values.items() if name in needed}
    drop_unused_tensors(graph)
    return removed
