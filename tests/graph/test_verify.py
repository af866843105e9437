"""The verifier accepts what the builders make and names what is wrong with anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastcpu
from fastcpu import _core
from fastcpu.errors import FileFormatError, GraphError
from fastcpu.export import onnx_ops
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph, Node, Quantization, Tensor, Value
from fastcpu.graph.rules import RULES, Check
from tests.reference import graphs
from tests.runtime.hostile import Model, seed_graph


@pytest.mark.parametrize("head", ["hidden", "qa", "classifier", "embedding"])
def test_valid_graphs(head: Any) -> None:
    verify.check(graphs.encoder(head=head))


MADE = {
    "add",
    "attention",
    "attention_qdq",
    "embedding",
    "fake_quant",
    "l2norm",
    "layernorm",
    "linear",
    "pointwise",
    "pool",
    "quantize",
    "repad",
    "unpad",
}
"""The ops of the graphs that fastcpu makes itself."""


def test_what_fastcpu_makes_has_rules_and_exported_forms() -> None:
    ops = {row["name"] for row in _core.op_table()}
    assert MADE <= set(RULES) <= ops
    assert MADE <= set(onnx_ops.OPS) <= ops


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
    (
        _attr("linear", "activation", "swish"),
        "'activation' is 'swish'; one of none, relu, gelu, gelu_tanh, tanh, table",
    ),
    (_attr("linear", "activation", "table"), "activation table without a table"),
    (_attr("linear", "axis", 1), "no attribute 'axis' is known"),
    (_attr("layernorm", "epsilon", float("nan")), "'epsilon' is nan"),
    (_attr("layernorm", "residual", 1), "'residual' is 1"),
    (_attr("attention", "head_dim", 12), "channels 0 to 24 of 'layer0.q.out', which has 16"),
    (_attr("attention", "kv_heads", 0), "'kv_heads' is 0; 1 to 2 expected"),
    (_attr("attention", "scale", True), "'scale' is True"),
    (_attr("repad", "end", 17), "repad 'last_hidden_state.repad': attribute 'end' is 17; 1 to 16 expected"),
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


def _one_input(graph: Graph) -> None:
    attention = _node(graph, "attention")
    attention.inputs = attention.inputs[:1]


def _tables(graph: Graph) -> None:
    embedding = _node(graph, "embedding")
    embedding.inputs = embedding.inputs[:1] * 5
    embedding.tensors = {f"table{i}": embedding.tensors["table0"] for i in range(5)}


def _head_dim(channels: int) -> Callable[[Graph], None]:
    """q, k and v with one u8 head of ``channels``."""

    def change(graph: Graph) -> None:
        attention = _node(graph, "attention")
        linear = graph.producer(attention.inputs[0])
        assert linear is not None
        value = graph.values[linear.outputs[0]]
        value.channels, value.quantization = 3 * channels, Quantization(0.02, 128)
        rows = {"weight": np.zeros((3 * channels, 16), np.int8), "bias": np.zeros(3 * channels, np.float32)}
        for role, data in rows.items():
            tensor = graph.tensors[linear.tensors[role]]
            tensor.data, tensor.encoding = data, "dense"
            tensor.scale = np.ones(3 * channels, np.float32) if role == "weight" else None
        places = {"q_offset": 0, "k_offset": channels, "v_offset": 2 * channels}
        attention.attrs = {"heads": 1, "head_dim": channels, "scale": 0.5, **places}
        graph.values[attention.outputs[0]].channels = channels

    return change


def _first_u8_linear(graph: Graph) -> Node:
    return next(n for n in graph.nodes if n.op == "linear" and graph.values[n.inputs[0]].dtype == "u8")


def _bias_s32(number: int) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        linear = _first_u8_linear(graph)
        rows = graph.values[linear.outputs[0]].channels
        linear.tensors["bias_s32"] = graph.add_tensor(Tensor("extra", np.full(rows, number, np.int32)))

    return change


def _weight(**changes: Any) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        name = _first_u8_linear(graph).tensors["weight"]
        tensor = graph.tensors[name]
        made = {key: np.full_like(getattr(tensor, key), number) for key, number in changes.items()}
        graph.tensors[name] = replace(tensor, **made)

    return change


def _u8_scale(scale: float) -> Callable[[Graph], None]:
    def change(graph: Graph) -> None:
        value = next(value for value in graph.values.values() if value.quantization is not None)
        value.quantization = Quantization(scale, 0)

    return change


def _output(**changes: Any) -> Callable[[Graph], None]:
    return lambda graph: graph.outputs.__setitem__(0, replace(graph.outputs[0], **changes))


def _output_without_repad(graph: Graph) -> None:
    graph.nodes.remove(_node(graph, "repad"))
    del graph.values[graph.outputs[0].value]
    graph.outputs[0] = replace(graph.outputs[0], value=graph.nodes[-2].outputs[0])


def _wide(columns: int) -> Callable[[Graph], None]:
    """A block weight that nobody reads, with so many columns."""
    data, scale = np.zeros((4, columns), np.int8), np.ones(4, np.float32)
    return lambda graph: graph.tensors.update(wide=Tensor("wide", data, scale, "block"))


def _smooth(factor: Any) -> Callable[[Graph], None]:
    """Factors of the first layernorm, which has 16 channels."""

    def spoil(graph: Graph) -> None:
        graph.add_tensor(Tensor("smooth", np.asarray(factor)))
        _node(graph, "layernorm").tensors["smooth"] = "smooth"

    return spoil


def _with(factor: float) -> NDArray[np.float32]:
    return np.array([1] * 3 + [factor] + [1] * 12, np.float32)


# A seed of tests/runtime/hostile.py, what makes it wrong, and what the verifier says. The runtime refuses it too.
REFUSED: list[tuple[str, Callable[[Graph], Any], str]] = [
    ("f32", _one_input, "attention 'layer0.attention': 1 inputs; 3 expected"),
    ("f32", _tables, "embedding 'embeddings': 5 inputs; 1 or 2 or 3 or 4 expected"),
    ("f32", _attr("attention", "heads", 1025), "'heads' is 1025; 1 to 1024 expected"),
    ("f32", _attr("attention", "head_dim", 4097), "'head_dim' is 4097; 1 to 4096 expected"),
    ("f32", _attr("attention", "scale", -0.5), "scale is negative"),
    ("f32", _attr("attention", "scale", 3e38), "overflows f32"),
    ("f32", _attr("layernorm", "epsilon", 1e-46), "epsilon is not positive"),
    ("f32", _attr("repad", "fill", 1e39), "'fill' is 1e+39; a finite f32 expected"),
    ("f32", lambda g: g.outputs.append(replace(g.outputs[0], value=g.outputs[1].value)), "two outputs are"),
    ("f32", lambda g: g.outputs.append(replace(g.outputs[0], name="again")), "two outputs with the value are"),
    ("f32", lambda g: g.outputs.pop(), "'end_logits' is in space output, but no output names it"),
    ("f32", _output_without_repad, "which is not a value in space output"),
    ("f32", _output(dims=("batch", "sequence", 1)), "has dims ['batch', 'sequence', 1]; [a name, a name] expected"),
    ("f32", _output(dims=("batch", "7")), "[a name, a name] expected"),
    ("f32", _output(dims=("batch", -1)), "[a name, a name] expected"),
    ("f32", _output(name="a\0b"), "names hold neither NUL nor surrogates"),
    ("f32", _output(name="a\ud800"), "names hold neither NUL nor surrogates"),
    ("f32", lambda g: g.inputs.__setitem__(1, replace(g.inputs[1], name="input_ids")), "two inputs are 'input_ids'"),
    ("f32", lambda g: _node(g, "unpad").tensors.update(x="layer0.q.bias"), "no tensor 'x' is known"),
    ("f32", _attr("unpad", "unknown", 0), "no attribute 'unknown' is known"),
    ("f32", _wide(65536), "blocks need an s8 matrix"),
    ("static", _head_dim(6), "head_dim 6: u8 attention needs a multiple of 4 up to 256"),
    ("static", _head_dim(260), "head_dim 260: u8 attention needs a multiple of 4 up to 256"),
    ("static", _attr("attention", "q_scale", 0.5), "'q_scale' is not"),
    ("static", lambda g: _node(g, "attention").attrs.pop("v_scale"), "'v_scale' is missing"),
    ("static", _attr("attention", "q_offset", 8), "lie in several groups"),
    ("static", _bias_s32(2**31 - 1), "row 0 could overflow 32 bits"),
    ("static", _weight(data=-128), "row 0 of tensor 'weight' has a value of -128"),
    ("static", _weight(scale=0), "has a scale that is not a positive number"),
    ("static", _weight(scale=3e38), "overflow f32"),
    ("static", _u8_scale(1e-38), "a positive normal f32 and a u8 zero point expected"),
    ("static", _u8_scale(1e39), "a positive normal f32 and a u8 zero point expected"),
    ("static", _smooth(_with(0)), "smooth of channel 3 times the scale is no positive normal f32"),
    ("static", _smooth(_with(-1)), "smooth of channel 3 times the scale is no positive normal f32"),
    ("static", _smooth(_with(-0.0)), "smooth of channel 3 times the scale is no positive normal f32"),
    ("static", _smooth(_with(1e-37)), "smooth of channel 3 times the scale is no positive normal f32"),
    ("static", _smooth(_with(np.nan)), "'smooth' contains NaN or infinite values"),
    ("static", _smooth(_with(np.inf)), "'smooth' contains NaN or infinite values"),
    ("static", _smooth(_with(1)[:15]), "tensor 'smooth' has shape [15]; [16] expected"),
    ("static", _smooth(_with(1).reshape(16, 1)), "tensor 'smooth' has shape [16, 1]; [16] expected"),
    ("static", _smooth(np.ones(16, np.uint8)), "tensor 'smooth' is u8; f32 expected"),
    ("f32", _smooth(_with(1)), "smooth needs a static u8 output"),
    ("dynamic", _smooth(_with(1)), "smooth needs a static u8 output"),
    ("dynamic", lambda g: _node(g, "layernorm").outputs.pop(), "disagree about a scale per token"),
    ("ops", _attr("attention_qdq", "kv_heads", 1), "'kv_heads' is 1; 2 to 2 expected"),
    ("ops", _attr("attention_qdq", "score_scale", 1e-39), "a positive scale whose inverse is a finite f32 expected"),
]


@pytest.mark.parametrize(("kind", "spoil", "message"), REFUSED, ids=[f"{kind}-{what}" for kind, _, what in REFUSED])
def test_the_runtime_refuses_it_too(kind: str, spoil: Callable[[Graph], Any], message: str, tmp_path: Path) -> None:
    graph = seed_graph(kind)
    verify.check(graph)
    spoil(graph)
    with pytest.raises(GraphError, match=re.escape(message)):
        verify.check(graph)
    with np.errstate(over="ignore"), pytest.raises((GraphError, FileFormatError)):
        fastcpu.Session(Model.of(graph).write(tmp_path / "m"))


def test_a_weight_of_2_to_the_31_elements() -> None:
    graph = graphs.encoder()
    linear = _dynamic(graph)
    graph.values["x"].channels, graph.values[linear.outputs[0]].channels = 32768, 65536
    data, scale = np.broadcast_to(np.int8(0), (65536, 32768)), np.ones(65536, np.float32)
    graph.tensors[linear.tensors["weight"]] = Tensor(linear.tensors["weight"], data, scale)
    node = next(node for node in graph.nodes if node is linear)
    with pytest.raises(GraphError, match="has 2147483648 elements; at most 2147483647"):
        RULES["linear"](Check(graph, node, {"x.scale"}))


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
