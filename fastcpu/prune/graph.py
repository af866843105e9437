"""Pruning of the encoder linears of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from fastcpu.errors import GraphError, InputError
from fastcpu.graph.ir import Graph, Node
from fastcpu.prune.weight import Sparsity, prune_weight, sparsity_of


@dataclass(frozen=True)
class LayerSparsity:
    """What pruning left of one linear."""

    name: str
    shape: tuple[int, int]
    sparsity: Sparsity


def _is_join(node: Node) -> bool:
    """True where a residual stream takes up what a layer has computed."""
    return node.op == "add" or (node.op == "layernorm" and bool(node.attrs.get("residual")))


def encoder_linears(graph: Graph) -> list[Node]:
    """The q, k, v, o, fc1 and fc2 of every layer: the linears between the first attention and the last residual join.

    Those that feed that attention are in. The projection of embeddings, the pooler and all heads (also those with a
    layernorm of their own) lie outside.
    """
    attention = next((node for node in graph.nodes if node.op.startswith("attention")), None)
    joins = [i for i, node in enumerate(graph.nodes) if _is_join(node)]
    if attention is None or not joins:
        return []
    first = min(i for i, node in enumerate(graph.nodes) if set(node.outputs) & set(attention.inputs))
    return [node for node in graph.nodes[first : joins[-1]] if node.op == "linear"]


def selected(name: str, only: Sequence[str], ignore: Sequence[str]) -> bool:
    """True if a name matches one of the ``only`` globs (or there are none) and none of the ``ignore`` globs."""
    wanted = not only or any(fnmatchcase(name, glob) for glob in only)
    return wanted and not any(fnmatchcase(name, glob) for glob in ignore)


def prune_graph(
    graph: Graph,
    sparsity: float,
    *,
    pattern: str = "4x1",
    score: str = "magnitude",
    only: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> list[LayerSparsity]:
    """Zeroes ``round(sparsity * blocks)`` blocks of each encoder linear of an f32 graph, in place.

    Returns what each layer then holds. ``only`` and ``ignore`` are globs of node names; a weight that several linears
    share is pruned once.
    """
    layers: list[LayerSparsity] = []
    done: set[str] = set()
    for node in encoder_linears(graph):
        if not selected(node.name, only, ignore):
            continue
        tensor = graph.tensors[node.tensors["weight"]]
        if tensor.data.dtype.kind != "f":
            raise GraphError(f"linear '{node.name}' is quantized already; prune before quantization")
        if tensor.name not in done:
            try:
                data = prune_weight(tensor.data, sparsity, pattern, score)
            except InputError as error:
                raise InputError(f"linear '{node.name}': {error}") from None
            graph.tensors[tensor.name] = replace(tensor, data=data)
            done.add(tensor.name)
        weight = graph.tensors[tensor.name].data
        layers.append(LayerSparsity(node.name, (weight.shape[0], weight.shape[1]), sparsity_of(weight, pattern)))
    if not layers:
        raise InputError("no encoder linear to prune: the graph has none, or the globs exclude them all")
    return layers
