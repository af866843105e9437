"""Static and dynamic."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import Builder


def graphs() -> Iterator[Graph]:
    for channels in (1, 6, 32):
        b = Builder("quantize", channels)
        h = b.hidden(channels)
        b.quantized(h, 0.01, 0)
        b.quantized(h, 0.02, 255)
        b.node("quantize", "dynamic", [h], b.dynamic("d", channels))
        yield b.finish(h)
