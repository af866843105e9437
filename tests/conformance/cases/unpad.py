"""unpad is in every graph; here with token types."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import LENGTH, VOCAB, Builder


def graphs() -> Iterator[Graph]:
    b = Builder("unpad")
    yield b.finish(b.embedding(b.unpad(), [VOCAB, LENGTH, 2], 8))
