"""Per token and per sequence."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import Builder


def graphs() -> Iterator[Graph]:
    b = Builder("l2norm")
    h = b.hidden(13)
    pooled = b.unary("pool", "pool", h, "sequences", mode="mean")
    yield b.finish(b.unary("l2norm", "tokens", h), b.unary("l2norm", "sequences", pooled))
