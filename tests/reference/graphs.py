"""Small f32 graphs with random weights, and batches to feed them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.ir import Graph, GraphInput, GraphOutput, Node, Quantization, Tensor, Value

Head = Literal["hidden", "qa", "classifier", "tagger", "embedding"]


class Builder:
    """Adds ops to a graph; weights come from one seeded generator."""

    def __init__(self, name: str, seed: int = 0) -> None:
        self.graph = Graph(name)
        self.rng = np.random.default_rng(seed)

    def value(self, name: str, channels: int, space: Any = "tokens", dtype: Any = "f32") -> str:
        return self.graph.add_value(Value(name, dtype, space, channels))

    def tensor(self, name: str, data: NDArray[Any]) -> str:
        return self.graph.add_tensor(Tensor(name, data))

    def node(self, op: str, name: str, inputs: list[str], outputs: list[str], **attrs: Any) -> Node:
        tensors = attrs.pop("tensors", {})
        node = Node(op, name, inputs, outputs, tensors, attrs)
        self.graph.nodes.append(node)
        return node

    def random(self, *shape: int, spread: float = 1.0) -> NDArray[np.float32]:
        return (self.rng.standard_normal(shape) * spread).astype(np.float32)

    def unpad(self, types: bool = True) -> list[str]:
        names = ["ids", "positions", *(["types"] if types else [])]
        self.graph.inputs += [GraphInput("input_ids", "ids"), GraphInput("attention_mask", "mask", optional=True)]
        sources = ["input_ids", "attention_mask"]
        if types:
            self.graph.inputs.append(GraphInput("token_type_ids", "types", optional=True))
            sources.append("token_type_ids")
        outputs = [self.value(name, 1, dtype="s32") for name in names]
        self.node("unpad", "unpad", sources, outputs)
        return outputs

    def embedding(self, inputs: list[str], rows: list[int], channels: int) -> str:
        tables = {
            f"table{i}": self.tensor(f"embeddings.{source}", self.random(count, channels))
            for i, (source, count) in enumerate(zip(inputs, rows, strict=True))
        }
        self.node("embedding", "embeddings", inputs, [self.value("embedded", channels)], tensors=tables)
        return "embedded"

    def layernorm(self, name: str, a: str, b: str | None = None) -> str:
        channels = self.graph.values[a].channels
        tensors = {
            "gamma": self.tensor(f"{name}.gamma", 1 + self.random(channels, spread=0.2)),
            "beta": self.tensor(f"{name}.beta", self.random(channels, spread=0.2)),
        }
        inputs = [a] if b is None else [a, b]
        output = self.value(f"{name}.out", channels, self.graph.values[a].space)
        self.node("layernorm", name, inputs, [output], tensors=tensors, epsilon=1e-12, residual=b is not None)
        return output

    def linear(self, name: str, x: str, channels: int, activation: str = "none") -> str:
        k = self.graph.values[x].channels
        tensors = {
            "weight": self.tensor(f"{name}.weight", self.random(channels, k, spread=k**-0.5)),
            "bias": self.tensor(f"{name}.bias", self.random(channels, spread=0.1)),
        }
        output = self.value(f"{name}.out", channels, self.graph.values[x].space)
        self.node("linear", name, [x], [output], tensors=tensors, activation=activation)
        return output

    def attention(self, name: str, q: str, k: str, v: str, heads: int, causal: bool = False) -> str:
        channels = self.graph.values[q].channels
        head_dim = channels // heads
        attrs = {"heads": heads, "kv_heads": heads, "head_dim": head_dim, "scale": head_dim**-0.5, "causal": causal}
        offsets = {"q_offset": 0, "k_offset": 0, "v_offset": 0}
        output = self.value(f"{name}.out", channels)
        self.node("attention", name, [q, k, v], [output], **attrs, **offsets)
        return output

    def unary(self, op: str, name: str, x: str, space: Any = None, **attrs: Any) -> str:
        source = self.graph.values[x]
        output = self.value(f"{name}.out", source.channels, space or source.space)
        self.node(op, name, [x], [output], **attrs)
        return output

    def output(self, name: str, x: str, begin: int = 0, end: int | None = None, **attrs: Any) -> None:
        source = self.graph.values[x]
        end = source.channels if end is None else end
        value = self.value(name, end - begin, "output")
        self.node(
            "repad", f"{name}.repad", [x], [value], begin=begin, end=end, **{"squeeze": False, "fill": 0.0} | attrs
        )
        dims: list[str | int] = ["batch", "sequence"] if source.space == "tokens" else ["batch"]
        if not attrs.get("squeeze"):
            dims.append(end - begin)
        self.graph.outputs.append(GraphOutput(name, value, tuple(dims)))


def encoder(
    layers: int = 2,
    channels: int = 16,
    heads: int = 2,
    inner: int = 32,
    vocab: int = 50,
    length: int = 24,
    head: Head = "hidden",
    causal: bool = False,
    seed: int = 0,
    labels: int = 3,
) -> Graph:
    """A post-LayerNorm encoder like BERT, with one of five heads; `labels` is for classifier and tagger."""
    b = Builder(f"tiny-{head}", seed)
    ids, positions, types = b.unpad()
    h = b.layernorm("embeddings.norm", b.embedding([ids, positions, types], [vocab, length, 2], channels))
    for i in range(layers):
        q, k, v = (b.linear(f"layer{i}.{role}", h, channels) for role in "qkv")
        context = b.attention(f"layer{i}.attention", q, k, v, heads, causal)
        h = b.layernorm(f"layer{i}.norm1", b.linear(f"layer{i}.o", context, channels), h)
        inside = b.linear(f"layer{i}.fc1", h, inner, "gelu")
        h = b.layernorm(f"layer{i}.norm2", b.linear(f"layer{i}.fc2", inside, channels), h)
    if head == "hidden":
        b.output("last_hidden_state", h)
    elif head == "qa":
        logits = b.linear("qa", h, 2)
        b.output("start_logits", logits, 0, 1, squeeze=True, fill=-1e4)
        b.output("end_logits", logits, 1, 2, squeeze=True, fill=-1e4)
    elif head == "classifier":
        pooled = b.linear("pooler", b.unary("pool", "cls", h, "sequences", mode="cls"), channels, "tanh")
        b.output("logits", b.linear("classifier", pooled, labels))
    elif head == "tagger":
        b.output("logits", b.linear("tagger", h, labels), fill=-1e4)
    else:
        b.output("sentence_embedding", b.unary("l2norm", "norm", b.unary("pool", "mean", h, "sequences", mode="mean")))
    return b.graph


def batch(rows: int = 3, length: int = 9, vocab: int = 50, seed: int = 0) -> dict[str, NDArray[np.int64]]:
    """A padded batch for `encoder`: ragged lengths, one of them full."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, rows)
    lengths[0] = length
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    return {
        "input_ids": rng.integers(0, vocab, (rows, length)) * mask,
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, (rows, length)) * mask,
    }


def written_out() -> Builder:
    """One block with nothing fused: linear, gelu, add, layernorm, quantize and a linear that reads the u8 value."""
    b = Builder("written-out")
    ids, positions, _ = b.unpad()
    h = b.layernorm("norm0", b.embedding([ids, positions], [50, 24], 16))
    inside = b.unary("pointwise", "gelu", b.linear("fc1", h, 32), function="gelu")
    outside = b.linear("fc2", inside, 16)
    b.node("add", "sum", [outside, h], [b.value("sum.out", 16)])
    normed = b.layernorm("norm1", "sum.out")
    b.graph.add_value(Value("x", "u8", "tokens", 16, Quantization(0.03, 120)))
    b.node("quantize", "quantize", [normed], ["x"])
    b.graph.values["fake.out"] = Value("fake.out", "f32", "tokens", 16)
    b.node("fake_quant", "fake", [normed], ["fake.out"], scale=0.03, zero_point=120)
    b.output("hidden", "fake.out")
    b.linear("unread", normed, 4)
    logits = b.linear("head", "x", 4)
    weight = b.graph.tensors["head.weight"]
    weight.data, weight.scale = (weight.data * 40).astype(np.int8), np.full(4, 0.02, np.float32)
    b.output("logits", logits)
    return b
