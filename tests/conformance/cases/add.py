"""Two f32 values."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import Builder


def graphs() -> Iterator[Graph]:
    b = Builder("add")
    h = b.hidden(9)
    b.node("add", "add", [h, b.unary("pointwise", "other", h, function="tanh")], [b.value("y", 9)])
    yield b.finish("y")
