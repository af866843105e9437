"""With and without a bias."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import Builder


def graphs() -> Iterator[Graph]:
    for biased in (False, True):
        b = Builder("fake_quant", biased)
        tensors = {"bias": b.tensor("bias", b.random(10))} if biased else {}
        h = b.hidden(10)
        b.node("fake_quant", "grid", [h], [b.value("y", 10)], tensors=tensors, scale=0.013, zero_point=77)
        yield b.finish("y")
