"""Graphs around one op: a hidden state to start from, quantized edges, and weights of every storage."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.ir import Graph, Quantization, Tensor, Value
from tests.reference import graphs

VOCAB, LENGTH = 40, 80


class Builder(graphs.Builder):
    """Adds quantized values to the f32 builder; `finish` makes a graph out of what is there."""

    def hidden(self, channels: int) -> str:
        """An f32 value per token that depends on the token and its position."""
        ids, positions = self.unpad(types=False)
        return self.embedding([ids, positions], [VOCAB, LENGTH], channels)

    def static(self, name: str, channels: int, scale: float, zero_point: int, space: Any = "tokens") -> str:
        return self.graph.add_value(Value(name, "u8", space, channels, Quantization(scale, zero_point)))

    def quantized(self, x: str, scale: float = 0.03, zero_point: int = 121) -> str:
        source = self.graph.values[x]
        q = self.static(f"{x}.q{len(self.graph.nodes)}", source.channels, scale, zero_point, source.space)
        self.node("quantize", f"quantize{len(self.graph.nodes)}", [x], [q])
        return q

    def dynamic(self, name: str, channels: int, space: Any = "tokens") -> list[str]:
        """A dynamic u8 value and its scale per token."""
        self.graph.add_value(Value(f"{name}.scale", "f32", space, 1))
        self.graph.add_value(Value(name, "u8", space, channels, dynamic_scale=f"{name}.scale"))
        return [name, f"{name}.scale"]

    def s8(self, name: str, rows: int, columns: int, density: float = 1.0, block: bool = False) -> str:
        """An s8 matrix with a scale per row; `density` is the share of 4x1 blocks that are not zero."""
        data = self.rng.integers(-127, 128, (rows, columns)).astype(np.int8)
        if block:
            keep = self.rng.random((rows // 4, 1, columns)) < density
            data = (data.reshape(rows // 4, 4, columns) * keep).astype(np.int8).reshape(rows, columns)
        scale = (self.rng.random(rows) * 0.002 + 0.0005).astype(np.float32)
        return self.graph.add_tensor(Tensor(name, data, scale, "block" if block else "dense"))

    def table(self, name: str) -> str:
        return self.tensor(name, self.rng.permutation(256).astype(np.uint8))

    def finish(self, *values: str) -> Graph:
        """The graph with an output for each f32 value; a u8 value is covered as a kept value."""
        for value in values:
            self.output(f"out.{value}", value)
        return self.graph


def feeds(seed: int, rows: int = 6, length: int = LENGTH) -> dict[str, NDArray[np.int64]]:
    """A padded batch: one full row, one of a single token, one empty, one with holes and left padding."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, length + 1, rows)
    lengths[:2] = length, 1
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    mask[2] = 0
    mask[3] = rng.integers(0, 2, length)
    mask[3, :3] = 0
    return {"input_ids": rng.integers(0, VOCAB, (rows, length)), "attention_mask": mask}
