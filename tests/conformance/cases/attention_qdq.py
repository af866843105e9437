"""With all, some and none of the quantization points of a file, with and without a position bias."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import Builder

POINTS = {
    "q": (0.02, 120), "k": (0.02, 131), "v": (0.03, 128), "score": (0.05, 110), "probability": (1 / 255, 0),
}  # fmt: skip


def graphs() -> Iterator[Graph]:
    for heads, head_dim, points, reach in [
        (2, 8, POINTS, None),
        (1, 5, {"score": POINTS["score"]}, None),
        (3, 16, {}, None),
        (2, 8, POINTS, 6),
    ]:
        b = Builder("attention_qdq", heads)
        h = b.hidden(12)
        q, k, v = (b.linear(role, h, heads * head_dim) for role in "qkv")
        grid = {f"{name}_scale": scale for name, (scale, _) in points.items()}
        grid |= {f"{name}_zero_point": zero_point for name, (_, zero_point) in points.items()}
        b.node(
            "attention_qdq", "attention", [q, k, v], [b.value("y", heads * head_dim)], heads=heads, kv_heads=heads,
            head_dim=head_dim, scale=0.7, q_factor=0.6, k_factor=0.8, q_offset=0, k_offset=0, v_offset=0,
            tensors={} if reach is None else {"bias": b.tensor("bias", b.random(heads, 2 * reach + 1))}, **grid,
        )  # fmt: skip
        yield b.finish("y")
