"""Model directories that lie: what write_model refuses to write, with the checksums made right again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastcpu
from fastcpu import _core
from fastcpu.export import weights, writer
from fastcpu.graph.ir import Graph
from fastcpu.graph.passes import merge_qkv
from fastcpu.graph.trace import Trace
from fastcpu.prune import prune_graph
from fastcpu.quantize import SCHEMES, observe
from tests.reference import executor, graphs

Answers = dict[str, NDArray[np.float32]]
Feeds = Mapping[str, Any]
Header = dict[str, Any]

FEEDS = graphs.batch()
KINDS = ["f32", "static", "dynamic"]


def checksum(data: bytes) -> str:
    return f"crc32c:{_core.crc32c(np.frombuffer(data, np.uint8)):08x}"


@dataclass
class Entry:
    """A tensor of weights.safetensors."""

    dtype: str
    shape: list[int]
    data: bytes

    def set(self, array: NDArray[Any]) -> None:
        self.dtype, self.shape, self.data = weights.DTYPES[array.dtype.name], list(array.shape), array.tobytes()

    def array(self) -> NDArray[Any]:
        dtype = next(name for name, short in weights.DTYPES.items() if short == self.dtype)
        return np.frombuffer(self.data, dtype).reshape(self.shape).copy()


@dataclass
class Model:
    """The contents of a model directory: graph.json as a document, and the tensors behind it."""

    graph: dict[str, Any]
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph) -> Model:
        """What write_model would write, without its checks."""
        document, arrays = writer._document(graph)
        model = cls(json.loads(json.dumps(document)))
        for name, array in arrays.items():
            model.entries[name] = Entry("", [], b"")
            model.entries[name].set(array)
        return model

    def copy(self) -> Model:
        return Model(deepcopy(self.graph), deepcopy(self.entries))

    def layout(self) -> tuple[Header, bytearray]:
        header: Header = {}
        data = bytearray()
        for name, entry in self.entries.items():
            gap = -len(data) % weights.ALIGNMENT
            if gap:
                header[f"_pad.{len(header)}"] = {
                    "dtype": "U8", "shape": [gap], "data_offsets": [len(data), len(data) + gap],
                }  # fmt: skip
                data += bytes(gap)
            begin = len(data)
            data += entry.data
            header[name] = {"dtype": entry.dtype, "shape": entry.shape, "data_offsets": [begin, len(data)]}
        return header, data

    def write(
        self,
        directory: Path,
        text: str | bytes | None = None,
        edit_header: Callable[[Header], None] | None = None,
        checksums: bool = True,
    ) -> Path:
        """Write the directory, with `text` instead of the graph; checksums are those of what is written."""
        if checksums and isinstance(self.graph.get("checksums"), dict):
            for name in self.graph["checksums"].keys() & self.entries.keys():
                self.graph["checksums"][name] = checksum(self.entries[name].data)
        if text is None:
            text = json.dumps(self.graph, indent=1)
        if isinstance(text, str):
            text = text.encode()
        header, data = self.layout()
        header = {"__metadata__": {"graph": checksum(text)}} | header
        if edit_header is not None:
            edit_header(header)
        directory.mkdir(exist_ok=True)
        (directory / writer.GRAPH_FILE).write_bytes(text)
        (directory / writer.WEIGHTS_FILE).write_bytes(weights_file(header, bytes(data)))
        return directory


def weights_file(header: Header, data: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % weights.ALIGNMENT)
    return len(text).to_bytes(8, "little") + text + data


def every_other_op() -> Graph:
    """The ops that the encoders lack, one after the other."""
    b = graphs.Builder("tiny-ops")
    h = b.layernorm("norm", b.embedding(b.unpad(), [50, 24, 2], 8))
    points = {"q": (0.02, 120), "k": (0.02, 131), "v": (0.03, 128), "score": (0.05, 110), "probability": (1 / 255, 0)}
    grid = {f"{name}_scale": scale for name, (scale, _) in points.items()}
    grid |= {f"{name}_zero_point": zero_point for name, (_, zero_point) in points.items()}
    q, k, v = (b.linear(role, h, 8) for role in "qkv")
    y = b.value("attention.out", 8)
    b.node(
        "attention_qdq", "attention", [q, k, v], [y], heads=2, kv_heads=2, head_dim=4, scale=0.7, q_factor=0.6,
        k_factor=0.8, q_offset=0, k_offset=0, v_offset=0, **grid,
    )  # fmt: skip
    x = b.unary("fake_quant", "points", y, scale=0.03, zero_point=121, tensors={"bias": b.tensor("bias", b.random(8))})
    total = b.value("add.out", 8)
    b.node("add", "add", [b.unary("pointwise", "gelu", x, function="gelu"), h], [total])
    for mode in ("cls", "mean", "max"):
        pooled = b.unary("pool", mode, total, "sequences", mode=mode)
        b.output(f"{mode}_embedding", b.unary("l2norm", f"{mode}.norm", pooled))
    b.output("hidden", total, 1, 4)
    return b.graph


def seed_graph(kind: str) -> Graph:
    """A tiny encoder: `f32`; `static`, int8 with 4x1 blocks, merged q, k, v and tables; or `dynamic`. Or `ops`."""
    if kind == "ops":
        return every_other_op()
    graph = graphs.encoder(layers=1, head="qa")
    if kind == "f32":
        return graph
    prune_graph(graph, 0.7)
    scheme = SCHEMES[kind]()
    batches = [graphs.batch(8, 20, seed=i) for i in range(2)]
    observed = observe(graph, batches, executor.taps, scheme.wanted(graph)) if scheme.requires_calibration else {}
    result, _ = scheme.apply(graph, observed)
    merge_qkv.run(result, Trace())
    return result


def seed_model(kind: str) -> Model:
    return Model.of(seed_graph(kind))


def outcome(directory: Path, feeds: Feeds, **options: Any) -> Answers | fastcpu.FastcpuError:
    """The answers of the model, or the one error that it may raise."""
    try:
        return fastcpu.Session(directory, **options).run(feeds)
    except fastcpu.FastcpuError as caught:
        error = caught
    assert type(error) is not fastcpu.FastcpuError, f"internal error: {error}"
    assert str(error).strip(), "an error without a message"
    return error


def refuse(directory: Path, error: type[fastcpu.FastcpuError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        fastcpu.Session(directory)
    assert type(caught.value) is error


def same(a: Answers, b: Answers) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


def every(items: Iterable[str], count: int) -> list[str]:
    """At most `count` of the items, evenly spread."""
    names = list(items)
    return [names[i * len(names) // count] for i in range(count)] if len(names) > count else names
