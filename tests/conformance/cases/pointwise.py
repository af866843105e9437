"""relu, gelu, its approximation and tanh."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import Builder


def graphs() -> Iterator[Graph]:
    for function in ("relu", "gelu", "gelu_tanh", "tanh"):
        b = Builder(function)
        yield b.finish(b.unary("pointwise", function, b.hidden(7), function=function))
