"""The verifier accepts what the builders make and names what is wrong with anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fastcpu import _core
from fastcpu.errors import GraphError
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph, Node, Quantization, Tensor, Value
from tests.reference import graphs


@pytest.mark.parametrize("head", ["hidden", "qa", "classifier", "embedding"])
def test_valid_graphs(head: Any) -> None:
    verify.check(graphs.encoder(head=head))


def test_rules_cover_the_runtime() -> None:
    assert {row["name"] for row in _core.op_table()} <= set(verify.RULES)


def _node(graph: Graph, op: str) -> Node:
    return next(node for node in graph.nodes if node.op == op)


def _attr(op: str, name: str, value: Any) -> Callable[[Graph], None]:
    return lambda graph: _node(graph, op).attrs.__setitem__(name, value)


def _value(name: str, **changes: Any) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        graph.values[name] = replace(graph.values[name], **changes)

    return change


def _tensor(name: str, **changes: Any) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        graph.tensors[name] = replace(graph.tensors[name], **changes)

    return change


def _quantized_weight(graph: Graph) -> None:
    scale = np.ones(15, np.float32)
    graph.tensors["layer0.q.weight"] = Tensor("layer0.q.weight", np.zeros((16, 16), np.int8), scale)


def _swap_nodes(graph: Graph) -> None:
    graph.nodes[3], graph.nodes[6] = graph.nodes[6], graph.nodes[3]


CASES: list[tuple[Callable[[Graph], Any], str]] = [
    (lambda g: g.inputs.pop(1), "one ids, one mask"),
    (lambda g: g.outputs.clear(), "has no outputs"),
    (lambda g: g.nodes.append(Node("conv", "c", [], [])), "conv 'c': no such op"),
    (lambda g: g.nodes.append(g.nodes[-1]), "another node has this name"),
    (lambda g: g.nodes.pop(3), "before it is written"),
    (_swap_nodes, "before it is written"),
    (lambda g: g.values.pop("layer0.q.out"), "writes 'layer0.q.out', which does not exist"),
    (lambda g: g.values.update(x=Value("x", "f32", "tokens", 4)), "value 'x' is never written"),
    (lambda g: g.values.update(y=g.values["layer0.q.out"]), "value 'layer0.q.out' is registered as 'y'"),
    (lambda g: g.tensors.pop("layer0.q.weight"), "tensor 'weight' is 'layer0.q.weight', which does not exist"),
    (lambda g: _node(g, "linear").tensors.pop("bias"), "tensor 'bias' is missing"),
    (lambda g: _node(g, "linear").tensors.update(extra="layer0.q.bias"), "no tensor 'extra' is known"),
    (lambda g: _node(g, "layernorm").inputs.append("embedded"), "layernorm 'embeddings.norm': 2 inputs; 1 expected"),
    (_attr("linear", "activation", "swish"), "'activation' is 'swish'; one of none, relu, gelu, tanh, table"),
    (_attr("linear", "activation", "table"), "activation table without a table"),
    (_attr("linear", "axis", 1), "no attribute 'axis' is known"),
    (_attr("layernorm", "epsilon", float("nan")), "'epsilon' is nan"),
    (_attr("layernorm", "residual", 1), "'residual' is 1"),
    (_attr("attention", "head_dim", 12), "channels 0 to 24 of 'layer0.q.out', which has 16"),
    (_attr("attention", "kv_heads", 0), "2 heads and 0 of keys"),
    (_attr("attention", "scale", True), "'scale' is True"),
    (_attr("repad", "end", 17), "channels 0 to 17 of 'layer1.norm2.out', which has 16"),
    (_attr("repad", "squeeze", True), "drops the axis of one channel, not of 16"),
    (_value("layer0.q.out", channels=8), "tensor 'weight' has shape [16, 16]; [8, 16] expected"),
    (_value("layer0.q.out", space="sequences"), "in space sequences; tokens expected"),
    (_value("layer0.q.out", dtype="s32"), "is s32; u8 or f32 expected"),
    (_value("layer0.q.out", dtype="u8"), "is u8 and needs either a scale"),
    (_value("layer0.q.out", quantization=Quantization(1.0, 0)), "is f32 and has a scale"),
    (_value("layer0.q.out", dtype="u8", quantization=Quantization(0.0, 0)), "has scale 0.0"),
    (_value("layer0.q.out", dtype="u8", quantization=Quantization(1.0, 256)), "zero point 256"),
    (
        _value("layer0.q.out", dtype="u8", quantization=Quantization(1.0, 0, ((0, 1.0, 0), (16, 1.0, 0)))),
        "groups that start at channels [0, 16], of 16",
    ),
    (_value("layer0.q.out", dtype="u8", quantization=Quantization(1.0, 0)), "a u8 output needs a static u8 input"),
    (_value("last_hidden_state", space="tokens"), "in space tokens; output expected"),
    (_tensor("layer0.q.weight", data=np.full((16, 16), np.nan, np.float32)), "'layer0.q.weight' contains NaN"),
    (_tensor("layer0.q.weight", data=np.zeros((16, 16), np.int8)), "is s8 without a scale per row"),
    (_tensor("layer0.q.weight", data=np.zeros((16, 16))), "has dtype float64"),
    (_tensor("layer0.q.weight", encoding="block"), "blocks need an s8 matrix"),
    (_tensor("layer0.q.bias", data=np.zeros(4, np.float32)), "tensor 'bias' has shape [4]; [16] expected"),
    (_quantized_weight, "has a scale of shape [15]"),
]


@pytest.mark.parametrize(("spoil", "message"), CASES, ids=[message for _, message in CASES])
def test_invalid_graphs_are_named(spoil: Callable[[Graph], Any], message: str) -> None:
    graph = graphs.encoder()
    spoil(graph)
    with pytest.raises(GraphError, match=re.escape(message)):
        verify.check(graph)


def _dynamic(graph: Graph) -> Node:
    """The first linear of ``graph`` with a dynamic u8 input and its scale."""
    linear = _node(graph, "linear")
    graph.add_value(Value("x", "u8", "tokens", 16, dynamic_scale="x.scale"))
    graph.add_value(Value("x.scale", "f32", "tokens", 1))
    graph.nodes.insert(graph.nodes.index(linear), Node("quantize", "quantize", linear.inputs, ["x", "x.scale"]))
    linear.inputs = ["x", "x.scale"]
    weight = graph.tensors[linear.tensors["weight"]]
    weight.data, weight.scale = np.zeros(weight.data.shape, np.int8), np.ones(16, np.float32)
    return linear


def test_dynamic_inputs() -> None:
    graph = graphs.encoder()
    linear = _dynamic(graph)
    verify.check(graph)
    linear.inputs = ["x", linear.outputs[0]]
    with pytest.raises(GraphError, match="before it is written"):
        verify.check(graph)
    linear.inputs = ["x"]
    with pytest.raises(GraphError, match="1 inputs; 2 expected"):
        verify.check(graph)
