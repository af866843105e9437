"""add + layernorm -> layernorm of a sum."""

from __future__ import annotations

from fastcpu.graph.ir import Graph
from fastcpu.graph.trace import Trace


def run(graph: Graph, trace: Trace) -> int:
    """Where nothing else reads the sum. The arithmetic stays the same."""
    producers = {name: node for node in graph.nodes for name in node.outputs}
    fused = []
    for node in graph.nodes:
        if node.op != "layernorm" or node.attrs.get("residual", False):
            continue
        source = node.inputs[0]
        add = producers[source]
        if add.op != "add":
            trace.miss("fuse_residual", node.name, f"its input comes from {add.op} '{add.name}', not from an add")
        elif len(list(graph.consumers(source))) > 1:
            trace.miss("fuse_residual", node.name, f"'{source}' is read by others too")
        else:
            node.inputs = list(add.inputs)
            node.attrs["residual"] = True
            del graph.values[source]
            fused.append(add.name)
    graph.nodes = [node for node in graph.nodes if node.name not in fused]
    return len(fused)
