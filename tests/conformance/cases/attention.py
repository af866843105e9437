"""f32 and u8, f32 and u8 outputs, shared key and value heads, causal, position bias, separate and merged q, k, v."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph, Quantization, Value
from tests.conformance.builder import Builder


def _bias(b: Builder, heads: int, reach: int | None) -> dict[str, str]:
    return {} if reach is None else {"bias": b.tensor("bias", b.random(heads, 2 * reach + 1))}


def graphs() -> Iterator[Graph]:
    for heads, head_dim, causal, reach in [
        (1, 3, False, None),
        (3, 8, True, 5),
        (2, 33, False, None),
        (2, 4, False, 90),
    ]:
        b = Builder("f32", heads)
        h = b.hidden(12)
        q, k, v = (b.linear(role, h, heads * head_dim) for role in "qkv")
        y = b.attention("attention", q, k, v, heads, causal)
        b.graph.nodes[-1].tensors |= _bias(b, heads, reach)
        yield b.finish(y)
    for heads, kv_heads, head_dim, causal, u8, reach in [
        (1, 1, 4, False, True, None),
        (4, 2, 8, False, True, None),
        (2, 2, 64, True, False, None),
        (4, 2, 8, False, True, 7),
        (2, 2, 12, True, False, 0),
        (3, 3, 4, False, False, 100),
    ]:
        b = Builder("u8", heads)
        h = b.hidden(16)
        channels, kv_channels = heads * head_dim, kv_heads * head_dim
        q = b.quantized(b.linear("q", h, channels), 0.02, 111)
        k = b.quantized(b.linear("k", h, kv_channels), 0.025, 128)
        v = b.quantized(b.linear("v", h, kv_channels), 0.02, 128)
        y = b.static("y", channels, 0.01, 131) if u8 else b.value("y", channels)
        b.node(
            "attention", "attention", [q, k, v], [y], heads=heads, kv_heads=kv_heads, head_dim=head_dim,
            scale=head_dim**-0.5, causal=causal, q_offset=0, k_offset=0, v_offset=0, tensors=_bias(b, heads, reach),
        )  # fmt: skip
        yield b.finish(*(["embedded"] if u8 else ["y"]))
    b = Builder("merged")
    x = b.quantized(b.hidden(16))
    groups = ((0, 0.02, 120), (16, 0.03, 128), (32, 0.025, 128))
    merged = b.graph.add_value(Value("qkv", "u8", "tokens", 48, Quantization(0.02, 120, groups)))
    tensors = {"weight": b.s8("weight", 48, 16, 0.6, block=True), "bias": b.tensor("bias", b.random(48))}
    b.node("linear", "qkv", [x], [merged], tensors=tensors)
    b.node(
        "attention", "attention", [merged] * 3, [b.value("y", 16)], heads=4, kv_heads=4, head_dim=4, scale=0.5,
        causal=False, q_offset=0, k_offset=16, v_offset=32, q_scale=0.02, q_zero_point=120, k_scale=0.03, v_scale=0.025,
    )  # fmt: skip
    yield b.finish("y")
