"""Three linears that feed an attention and read the same u8 value -> one linear with 3C output channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.edit import drop_unused_tensors, fresh_name
from fastcpu.graph.ir import Graph, Node, Quantization, Tensor, Value
from fastcpu.graph.trace import Trace


def run(graph: Graph, trace: Trace) -> int:
    """Every channel keeps its weights, constants and quantization, so that this changes no bit.

    Runs after quantization. Linears of different encodings stay apart, so that each keeps the one that suits it.
    """
    merged = 0
    for node in [node for node in graph.nodes if node.op == "attention"]:
        obstacle = _obstacle(graph, node)
        if obstacle is None:
            _merge(graph, node)
            merged += 1
        else:
            trace.miss("merge_qkv", node.name, obstacle)
    return merged


def _obstacle(graph: Graph, attention: Node) -> str | None:
    """Why the linears of an attention cannot be merged."""
    if len(set(attention.inputs)) != 3:
        return "q, k and v are parts of one value already"
    linears = [graph.producer(name) for name in attention.inputs]
    for name, linear in zip(attention.inputs, linears, strict=True):
        if linear is None or linear.op != "linear" or linear.attrs.get("activation", "none") != "none":
            return f"'{name}' does not come from a linear without activation"
        if len(list(graph.consumers(name))) > 1:
            return f"'{name}' is read by others too"
        quantization = graph.values[name].quantization
        if quantization is not None and quantization.groups:
            return f"'{name}' has several scales"
    sources = {tuple(linear.inputs) for linear in linears if linear is not None}
    if len(sources) != 1:
        return "q, k and v are computed from different values"
    if graph.values[next(iter(sources))[0]].dtype != "u8":
        return "the linears read f32"
    if len({graph.tensors[linear.tensors["weight"]].encoding for linear in linears if linear is not None}) != 1:
        return "some weights are stored as blocks and some dense"
    return None


def _merge(graph: Graph, attention: Node) -> None:
    linears = [next(node for node in graph.nodes if name in node.outputs) for name in attention.inputs]
    values = [graph.values[name] for name in attention.inputs]
    starts = np.cumsum([0, *(value.channels for value in values)]).tolist()
    name = fresh_name(graph, f"{attention.name}.qkv")

    weights = [graph.tensors[linear.tensors["weight"]] for linear in linears]
    scales = [weight.scale for weight in weights if weight.scale is not None]
    stacked, encoding = np.concatenate([weight.data for weight in weights]), weights[0].encoding
    weight_name = fresh_name(graph, f"{name}.weight")
    tensors = {"weight": graph.add_tensor(Tensor(weight_name, stacked, np.concatenate(scales), encoding))}
    bias = np.concatenate([graph.tensors[linear.tensors["bias"]].data for linear in linears])
    tensors["bias"] = graph.add_tensor(Tensor(fresh_name(graph, f"{name}.bias"), bias))
    if any("bias_s32" in linear.tensors for linear in linears):
        integers = np.concatenate([_bias_s32(graph, linear) for linear in linears])
        tensors["bias_s32"] = graph.add_tensor(Tensor(fresh_name(graph, f"{name}.bias_s32"), integers))

    value = Value(fresh_name(graph, f"{name}.out"), values[0].dtype, values[0].space, starts[-1])
    if value.dtype == "u8":
        q, k, v = (_quantization(value) for value in values)
        groups = tuple((start, p.scale, p.zero_point) for start, p in zip(starts, (q, k, v), strict=False))
        value.quantization = Quantization(q.scale, q.zero_point, groups)
        attention.attrs |= {"q_scale": q.scale, "q_zero_point": q.zero_point, "k_scale": k.scale, "v_scale": v.scale}
    graph.add_value(value)
    for role, start in zip(("q_offset", "k_offset", "v_offset"), starts, strict=False):
        attention.attrs[role] = start + attention.attrs.get(role, 0)

    # In the place of the first of the three; what they read is written by then.
    first = min(graph.nodes.index(linear) for linear in linears)
    graph.nodes[first] = Node("linear", name, list(linears[0].inputs), [value.name], tensors, {"activation": "none"})
    graph.nodes = [node for node in graph.nodes if not any(node is linear for linear in linears)]
    attention.inputs = [value.name] * 3
    for old in values:
        del graph.values[old.name]
    drop_unused_tensors(graph)


def _bias_s32(graph: Graph, linear: Node) -> NDArray[Any]:
    """The s32 bias of a linear; zeros where it has none."""
    if "bias_s32" in linear.tensors:
        return graph.tensors[linear.tensors["bias_s32"]].data
    return np.zeros(graph.tensors[linear.tensors["weight"]].data.shape[0], np.int32)


def _quantization(value: Value) -> Quantization:
    assert value.quantization is not None, value.name
    return value.quantization
