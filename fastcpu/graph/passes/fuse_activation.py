"""linear + pointwise -> linear with an activation."""

from __future__ import annotations

from fastcpu.graph.ir import Graph
from fastcpu.graph.trace import Trace


def run(graph: Graph, trace: Trace) -> int:
    """Where the linear has no activation yet and nothing else reads its output. The arithmetic stays the same."""
    producers = {name: node for node in graph.nodes for name in node.outputs}
    fused = []
    for node in graph.nodes:
        if node.op != "pointwise":
            continue
        source = node.inputs[0]
        linear = producers[source]
        if linear.op != "linear":
            trace.miss(
                "fuse_activation", node.name, f"its input comes from {linear.op} '{linear.name}', not from a linear"
            )
        elif linear.attrs.get("activation", "none") != "none":
            trace.miss("fuse_activation", node.name, f"linear '{linear.name}' has an activation already")
        elif len(list(graph.consumers(source))) > 1:
            trace.miss("fuse_activation", node.name, f"'{source}' is read by others too")
        else:
            linear.attrs["activation"] = node.attrs["function"]
            linear.outputs = list(node.outputs)
            producers[node.outputs[0]] = linear
            del graph.values[source]
            fused.append(node.name)
    graph.nodes = [node for node in graph.nodes if node.name not in fused]
    return len(fused)
