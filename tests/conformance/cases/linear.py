"""f32, static u8 (dense, block-sparse, table, s32 bias) and dynamic u8 inputs; sizes around the register blocks."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph, Quantization, Value
from tests.conformance.builder import Builder


def graphs() -> Iterator[Graph]:
    for n, k, activation in [(1, 3, "none"), (7, 20, "relu"), (52, 33, "gelu"), (12, 17, "gelu_tanh"), (64, 8, "tanh")]:
        b = Builder("f32", n)
        yield b.finish(b.linear("linear", b.hidden(k), n, activation))
    for n, k, density in [(2, 12, None), (52, 33, None), (8, 5, 0.0), (52, 64, 0.2), (100, 40, 0.5), (16, 16, 1.0)]:
        for output in ("f32", "gelu", "u8", "groups", "table"):
            b = Builder(output, n)
            x = b.quantized(b.hidden(k))
            sparse = density is not None
            weight = b.s8("weight", n, k, density if density is not None else 1.0, block=sparse)
            tensors = {"weight": weight, "bias": b.tensor("bias", b.random(n, spread=0.1))}
            attrs = {}
            if output == "u8":
                y = b.static("y", n, 0.005, 100)
            elif output == "groups":
                groups = tuple((first, 0.004 + 0.001 * i, 90 + 10 * i) for i, first in enumerate((0, n // 2)))
                y = b.graph.add_value(Value("y", "u8", "tokens", n, Quantization(0.004, 90, groups)))
            elif output == "table":
                y = b.static("y", n, 0.01, 3)
                tensors["table"] = b.table("table")
                attrs = {"activation": "table", "table_scale": 0.004, "table_zero_point": 130}
            else:
                y = b.value("y", n)
                attrs = {"activation": "gelu" if output == "gelu" else "none"}
            if output == "f32":
                tensors["bias_s32"] = b.tensor("bias_s32", b.rng.integers(-3000, 3000, n).astype("int32"))
            b.node("linear", "linear", [x], [y], tensors=tensors, **attrs)
            yield b.finish(*([] if b.graph.values[y].dtype == "u8" else [y]) or ["embedded"])
    for density in (None, 0.3):
        b = Builder("dynamic")
        x = b.dynamic("x", 24)
        b.node("quantize", "quantize", [b.hidden(24)], x)
        tensors = {
            "weight": b.s8("weight", 28, 24, density or 1.0, block=density is not None),
            "bias": b.tensor("bias", b.random(28)),
        }
        b.node("linear", "linear", x, [b.value("y", 28)], tensors=tensors)
        yield b.finish("y")
