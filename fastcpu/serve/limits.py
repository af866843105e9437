"""What a model can be given, as its graph says: what one sequence has wrong must not fail a batch with others in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True)
class Limits:
    """Of a model's sequences.

    Attributes:
        ids, types: token ids and types are below these; None without limit.
        positions: most tokens of a sequence; None without limit.
        padding: the token id that is not counted in positions; None where positions are columns, or there are none.
        distances: whether attention depends on how many columns two tokens are apart.
        fills: what stands in the padding of each output.
    """

    ids: int | None
    types: int | None
    positions: int | None
    padding: int | None
    distances: bool
    fills: Mapping[str, float]


def read_limits(directory: Path) -> Limits:
    """The limits of a model directory that a session has opened, and so checked."""
    graph = orjson.loads((directory / "graph.json").read_bytes())
    unpad = next(node for node in graph["nodes"] if node["op"] == "unpad")
    ids, positions, *types = unpad["outputs"]
    padding = unpad.get("attrs", {}).get("padding_id")
    rows = dict(sorted(_tables(graph), reverse=True))  # of several tables for one input, the smallest
    longest = rows.get(positions)
    if longest is not None and padding is not None:
        longest -= 1  # row 0 is that of padding
    fills = {
        node["outputs"][0]: float(node.get("attrs", {}).get("fill", 0.0))
        for node in graph["nodes"]
        if node["op"] == "repad"
    }
    return Limits(
        ids=rows.get(ids),
        types=rows.get(types[0]) if types else None,
        positions=longest,
        padding=padding if longest is not None else None,
        distances=any("bias" in node.get("tensors", {}) for node in graph["nodes"] if "attention" in node["op"]),
        fills={output["name"]: fills[output["value"]] for output in graph["outputs"]},
    )


def _tables(graph: Any) -> Iterator[tuple[str, int]]:
    """The inputs of embeddings, and how many rows their tables have."""
    for node in graph["nodes"]:
        if node["op"] == "embedding":
            for number, name in enumerate(node["inputs"]):
                yield name, graph["tensors"][node["tensors"][f"table{number}"]]["shape"][0]
