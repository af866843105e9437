"""Which linears are quantized, their weights, and the record of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastcpu.errors import QuantizationError
from fastcpu.graph.ir import EMBEDDING, Graph, Node, Quantization, Tensor
from fastcpu.graph.limits import MAX_COLUMNS
from fastcpu.prune.graph import selected
from fastcpu.quantize.histogram import Histogram
from fastcpu.quantize.weights import encoded, quantize_tensor


@dataclass(frozen=True)
class Selection:
    """Globs of node names: in if it matches one of ``only`` (or there are none) and none of ``ignore``."""

    only: Sequence[str] = ()
    ignore: Sequence[str] = ()

    def __contains__(self, name: str) -> bool:
        return selected(name, self.only, self.ignore)


@dataclass
class Record:
    """What quantization chose, for report.json.

    ``ranges`` by value name; why a linear stayed f32, by node name; and of smoothing its ``alpha`` and, where that was
    searched for, the ``errors`` of the outputs. ``smooth`` is empty without smoothing.
    """

    ranges: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept_f32: dict[str, str] = field(default_factory=dict)
    smooth: dict[str, Any] = field(default_factory=dict)

    def note(
        self, value: str, quantization: Quantization, seen: Histogram | None = None, error: float | None = None
    ) -> None:
        """A u8 value, what calibration saw of it, and the squared error of u8 on that, relative to the squares."""
        scale, zero_point = quantization.scale, quantization.zero_point
        self.ranges[value] = {
            "scale": scale,
            "zero_point": zero_point,
            "low": -zero_point * scale,
            "high": (255 - zero_point) * scale,
            "seen_low": None if seen is None else seen.low,
            "seen_high": None if seen is None else seen.high,
            "error": None if error is None else float(f"{error:.4g}"),
        }


def quantizable_linears(graph: Graph, selection: Selection, record: Record) -> list[Node]:
    """The f32 linears to quantize; QuantizationError if none is left."""
    chosen: list[Node] = []
    behind = _behind_pooling(graph)
    for node in graph.nodes:
        if node.op != "linear" or graph.values[node.inputs[0]].dtype != "f32":
            continue
        weight = graph.tensors[node.tensors["weight"]]
        if node.name not in selection:
            record.kept_f32[node.name] = "excluded"
        elif node.name in behind:
            record.kept_f32[node.name] = "behind the pooling of a sentence encoder"
        elif weight.data.shape[1] > MAX_COLUMNS:
            record.kept_f32[node.name] = f"more than {MAX_COLUMNS} input channels"
        else:
            chosen.append(node)
    if not chosen:
        raise QuantizationError("no linear to quantize: the graph has no f32 linear, or the globs exclude them all")
    return chosen


def _behind_pooling(graph: Graph) -> set[str]:
    """The linears between a pooling and the sentence embedding: they run once per text, and cost next to nothing."""
    found: set[str] = set()
    for output in graph.outputs:
        node = graph.producer(output.value) if output.name == EMBEDDING else None
        while node is not None and node.op in ("repad", "l2norm", "linear"):
            found |= {node.name} if node.op == "linear" else set()
            node = graph.producer(node.inputs[0])
    return found


def quantize_weights(graph: Graph, linears: Sequence[Node]) -> None:
    """Stores the weights of the linears as s8 in the smaller encoding, and embedding tables as s8 rows, in place.

    A matrix that an f32 linear uses as well stays f32 under its own name.
    """
    chosen = {node.name for node in linears}
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.tensors.values():
            users.setdefault(name, []).append(node)
    made: dict[str, Tensor] = {}
    for node in graph.nodes:
        is_linear = node.name in chosen
        if not is_linear and node.op != "embedding":
            continue
        for role, name in node.tensors.items():
            if (role != "weight" and not role.startswith("table")) or role == "table":
                continue
            if name not in made:
                made[name] = _quantized(graph, name, users[name], chosen)
            node.tensors[role] = made[name].name
    for tensor in made.values():
        graph.tensors[tensor.name] = tensor


def _quantized(graph: Graph, name: str, users: Sequence[Node], chosen: set[str]) -> Tensor:
    """The s8 form of a matrix. Only a matrix that nothing but linears read may be in the block encoding."""
    source = graph.tensors[name]
    keeps_f32 = any(node.op == "linear" and node.name not in chosen for node in users)
    target = f"{name}.s8" if keeps_f32 else name
    try:
        tensor = quantize_tensor(Tensor(target, source.data))
    except QuantizationError as error:
        raise QuantizationError(f"node '{users[0].name}': {error}") from None
    return tensor if any(node.op == "embedding" for node in users) else encoded(tensor)
