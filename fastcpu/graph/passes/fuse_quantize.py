"""layernorm + quantize -> layernorm with a u8 output."""

from __future__ import annotations

from fastcpu.graph.ir import Graph
from fastcpu.graph.trace import Trace


def run(graph: Graph, trace: Trace) -> int:
    """A layernorm's u8 output is ``quantize`` of its f32 output, so that this changes no bit; it has room for one."""
    producers = {name: node for node in graph.nodes for name in node.outputs}
    fused = []
    for node in graph.nodes:
        if node.op != "quantize":
            continue
        norm = producers[node.inputs[0]]
        if norm.op != "layernorm":
            trace.miss(
                "fuse_quantize", node.name, f"its input comes from {norm.op} '{norm.name}', not from a layernorm"
            )
        elif len(norm.outputs) > 1:
            trace.miss("fuse_quantize", node.name, f"layernorm '{norm.name}' has a u8 output already")
        else:
            norm.outputs += node.outputs
            fused.append(node.name)
    graph.nodes = [node for node in graph.nodes if node.name not in fused]
    return len(fused)
