"""DistilBERT for question answering as the ONNX graph that the patterns of Intel's Neural Engine recognize.

It is the graph that transformers and torch exported in 2022 (opset 14), written node by node, because what they export
now has other nodes: linears are MatMul and Add, the attention mask is a number added to the scores, LayerNorm and GELU
are their arithmetic. Inputs are int32 [batch, sequence].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 14
IR_VERSION = 8
LAYER_NORM_EPSILON = 1e-12
MASKED = -10000.0
"""Added to the scores of padding."""


class _Graph:
    """Nodes and constants in the order in which they are computed."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """The name of a constant, added once."""
        from onnx import numpy_helper

        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def number(self, value: float) -> str:
        """A float constant without dimensions."""
        return self.constant(f"number_{value:g}", np.array(value, np.float32))

    def integers(self, values: Sequence[int] | int) -> str:
        """An int64 constant; of one number, without dimensions."""
        return self.constant(f"integers_{values}".replace(" ", ""), np.array(values, np.int64))

    def node(self, op_type: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, which has its name."""
        from onnx import helper

        self.nodes.append(helper.make_node(op_type, list(inputs), [name], f"{name}_{op_type}", **attributes))
        return name

    def linear(self, prefix: str, x: str) -> str:
        """x times the weight of module `prefix` plus its bias."""
        weight = self.constant(f"{prefix}.weight.T", self.weights[f"{prefix}.weight"].T)
        product = self.node("MatMul", f"{prefix}.product", x, weight)
        bias = self.constant(f"{prefix}.bias", self.weights[f"{prefix}.bias"])
        return self.node("Add", f"{prefix}.out", product, bias)

    def layer_norm(self, prefix: str, x: str) -> str:
        """LayerNorm of the last axis."""
        mean = self.node("ReduceMean", f"{prefix}.mean", x, axes=[-1])
        centered = self.node("Sub", f"{prefix}.centered", x, mean)
        square = self.node("Pow", f"{prefix}.square", centered, self.number(2.0))
        variance = self.node("ReduceMean", f"{prefix}.variance", square, axes=[-1])
        stable = self.node("Add", f"{prefix}.stable", variance, self.number(LAYER_NORM_EPSILON))
        deviation = self.node("Sqrt", f"{prefix}.deviation", stable)
        normal = self.node("Div", f"{prefix}.normal", centered, deviation)
        scale = self.constant(f"{prefix}.weight", self.weights[f"{prefix}.weight"])
        scaled = self.node("Mul", f"{prefix}.scaled", normal, scale)
        return self.node(
            "Add", f"{prefix}.out", scaled, self.constant(f"{prefix}.bias", self.weights[f"{prefix}.bias"])
        )

    def gelu(self, prefix: str, x: str) -> str:
        """GELU with erf."""
        argument = self.node("Div", f"{prefix}.argument", x, self.number(math.sqrt(2)))
        erf = self.node("Erf", f"{prefix}.erf", argument)
        doubled = self.node("Add", f"{prefix}.doubled", erf, self.number(1.0))
        product = self.node("Mul", f"{prefix}.product", x, doubled)
        return self.node("Mul", f"{prefix}.out", product, self.number(0.5))


def _embeddings(graph: _Graph, positions: int) -> str:
    prefix = "distilbert.embeddings"
    tables = {
        name: graph.constant(f"{prefix}.{name}", graph.weights[f"{prefix}.{name}_embeddings.weight"])
        for name in ("word", "position")
    }
    words = graph.node("Gather", f"{prefix}.words", tables["word"], "input_ids", axis=0)
    shape = graph.node("Shape", f"{prefix}.shape", "input_ids")
    length = graph.node("Gather", f"{prefix}.length", shape, graph.integers(1), axis=0)
    end = graph.node("Unsqueeze", f"{prefix}.end", length, graph.integers([0]))
    all_positions = graph.constant(f"{prefix}.position_ids", np.arange(positions, dtype=np.int64)[None])
    ones = graph.integers([1])
    ids = graph.node("Slice", f"{prefix}.ids", all_positions, graph.integers([0]), end, ones, ones)
    places = graph.node("Gather", f"{prefix}.places", tables["position"], ids, axis=0)
    total = graph.node("Add", f"{prefix}.sum", words, places)
    return graph.layer_norm(f"{prefix}.LayerNorm", total)


def _mask(graph: _Graph) -> str:
    """0 for tokens and MASKED for padding, f32 [batch, 1, 1, sequence]."""
    from onnx import TensorProto

    rows = graph.node("Unsqueeze", "mask.rows", "attention_mask", graph.integers([1]))
    heads = graph.node("Unsqueeze", "mask.heads", rows, graph.integers([2]))
    kept = graph.node("Cast", "mask.kept", heads, to=TensorProto.FLOAT)
    padding = graph.node("Sub", "mask.padding", graph.number(1.0), kept)
    return graph.node("Mul", "mask.out", padding, graph.number(MASKED))


def _attention(graph: _Graph, prefix: str, x: str, mask: str, hidden: int, heads: int) -> str:
    split = graph.integers([0, 0, heads, hidden // heads])
    turned: dict[str, str] = {}
    for part, perm in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        value = graph.linear(f"{prefix}.{part}_lin", x)
        by_head = graph.node("Reshape", f"{prefix}.{part}", value, split)
        turned[part] = graph.node("Transpose", f"{prefix}.{part}.turned", by_head, perm=perm)
    q = graph.node("Div", f"{prefix}.q.scaled", turned["q"], graph.number(math.sqrt(hidden // heads)))
    scores = graph.node("MatMul", f"{prefix}.scores", q, turned["k"])
    masked = graph.node("Add", f"{prefix}.masked", scores, mask)
    shares = graph.node("Softmax", f"{prefix}.shares", masked, axis=3)
    context = graph.node("MatMul", f"{prefix}.context", shares, turned["v"])
    by_token = graph.node("Transpose", f"{prefix}.context.turned", context, perm=[0, 2, 1, 3])
    joined = graph.node("Reshape", f"{prefix}.joined", by_token, graph.integers([0, 0, hidden]))
    return graph.linear(f"{prefix}.out_lin", joined)


def distilbert_qa(weights: Mapping[str, NDArray[np.float32]], heads: int) -> Any:
    """The ModelProto of DistilBertForQuestionAnswering with `weights` as its state_dict names them."""
    from onnx import TensorProto, helper

    positions, hidden = weights["distilbert.embeddings.position_embeddings.weight"].shape
    graph = _Graph(weights)
    x = _embeddings(graph, positions)
    mask = _mask(graph)
    layer = 0
    while f"distilbert.transformer.layer.{layer}.ffn.lin1.weight" in weights:
        prefix = f"distilbert.transformer.layer.{layer}"
        attended = _attention(graph, f"{prefix}.attention", x, mask, hidden, heads)
        x = graph.layer_norm(f"{prefix}.sa_layer_norm", graph.node("Add", f"{prefix}.attention.sum", attended, x))
        active = graph.gelu(f"{prefix}.ffn.gelu", graph.linear(f"{prefix}.ffn.lin1", x))
        out = graph.linear(f"{prefix}.ffn.lin2", active)
        x = graph.layer_norm(f"{prefix}.output_layer_norm", graph.node("Add", f"{prefix}.ffn.sum", out, x))
        layer += 1
    logits = graph.linear("qa_outputs", x)
    outputs = ["start_logits", "end_logits"]
    halves = [f"{name}.column" for name in outputs]
    graph.nodes.append(helper.make_node("Split", [logits], halves, "qa_outputs.halves_Split", axis=-1))
    for name, half in zip(outputs, halves, strict=True):
        graph.node("Squeeze", name, half, graph.integers([-1]))
    size = ["batch", "sequence"]
    made = helper.make_graph(
        graph.nodes,
        "distilbert_qa",
        [helper.make_tensor_value_info(name, TensorProto.INT32, size) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name in outputs],
        list(graph.constants.values()),
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def quantized_products(model: Any) -> list[str]:
    """Names of the MatMul nodes that are computed in int8: the encoder's linears and the shares times V."""
    outputs = {node.name: node.output[0] for node in model.graph.node if node.op_type == "MatMul"}
    return [name for name, out in outputs.items() if out.startswith("distilbert.") and not out.endswith(".scores")]
