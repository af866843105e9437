"""unpad is in every graph; here with token types, and with positions that skip a padding token."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import LENGTH, VOCAB, Builder


def graphs() -> Iterator[Graph]:
    b = Builder("unpad")
    yield b.finish(b.embedding(b.unpad(), [VOCAB, LENGTH, 2], 8))
    for padding_id in (0, 7, VOCAB):  # the last is no token's
        b = Builder("counted")
        inputs = b.unpad(types=False)
        b.graph.nodes[0].attrs["padding_id"] = padding_id
        yield b.finish(b.embedding(inputs, [VOCAB, LENGTH + 1], 8))
