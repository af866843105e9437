"""The three modes, over tokens that straddle tiles, and ops on pooled vectors behind it."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import Builder


def graphs() -> Iterator[Graph]:
    for mode in ("cls", "mean", "max"):
        for channels in (3, 20):
            b = Builder(mode, channels)
            pooled = b.unary("pool", "pool", b.hidden(channels), "sequences", mode=mode)
            yield b.finish(pooled, b.linear("head", pooled, 5, "tanh"))
