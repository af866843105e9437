"""One to four tables, f32 and s8, channel counts around the transposition's blocks."""

from collections.abc import Iterator

from fastcpu.graph.ir import Graph
from tests.conformance.builder import LENGTH, VOCAB, Builder


def graphs() -> Iterator[Graph]:
    for channels in (1, 16, 37):
        b = Builder("f32", channels)
        yield b.finish(b.hidden(channels))
    for channels in (4, 33):
        b = Builder("s8", channels)
        ids, positions = b.unpad(types=False)
        tables = {
            "table0": b.s8("words", VOCAB, channels),
            "table1": b.tensor("positions", b.random(LENGTH, channels)),
            "table2": b.s8("again", VOCAB, channels),
            "table3": b.s8("places", LENGTH, channels),
        }
        b.node("embedding", "sum", [ids, positions, ids, positions], [b.value("sum", channels)], tensors=tables)
        yield b.finish("sum")
