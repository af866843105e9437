"""Small rewrites of a graph that the quantization schemes share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.edit import fresh_name
from fastcpu.graph.ir import Graph, Node, Tensor, Value


def insert_after(graph: Graph, additions: Mapping[str, Node]) -> None:
    """Puts each node right behind the producer of the value it is listed under."""
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes.append(node)
        nodes.extend(additions[name] for name in node.outputs if name in additions)
    graph.nodes = nodes


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


def smooth_layernorm(
    graph: Graph, producer: Node, factor: NDArray[np.float32], linears: Iterable[Node], scaled: set[str]
) -> None:
    """Divides the u8 output of a layernorm by a factor [channels], and multiplies the f32 weights of its linears.

    ``scaled`` names the weights that have been multiplied: those that several layers share are once. A zero stays one.
    """
    tensor = Tensor(fresh_name(graph, f"{producer.name}.smooth"), factor)
    producer.tensors["smooth"] = graph.add_tensor(tensor)
    for node in linears:
        name = node.tensors["weight"]
        if name not in scaled:
            scaled.add(name)
            graph.tensors[name] = Tensor(name, graph.tensors[name].data * factor)
