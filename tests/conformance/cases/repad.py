"""Slices of channels, squeezed and not, with a fill value."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import Builder


def graphs() -> Iterator[Graph]:
    b = Builder("repad")
    h = b.hidden(6)
    b.output("first", h, 0, 1, squeeze=True, fill=-1e4)
    b.output("middle", h, 2, 5, fill=-1.0)
    b.output("pooled", b.unary("pool", "pool", h, "sequences", mode="max"), 1, 3)
    yield b.graph
