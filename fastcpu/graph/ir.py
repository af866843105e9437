"""The graph of runtime ops: what passes rewrite, a model directory stores and the C++ runtime executes.

docs/format.md specifies the ops and the files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

DType = Literal["f32", "u8", "s32"]
Space = Literal["tokens", "sequences", "output"]

EMBEDDING = "sentence_embedding"
"""The output of a sentence encoder with one vector per text."""


@dataclass(frozen=True)
class Quantization:
    """Static quantization of a u8 value: ``x = (q - zero_point) * scale``, per tensor or per group of channels.

    ``groups`` (for a merged q, k, v value) lists ``(first_channel, scale, zero_point)`` in ascending order; it is
    empty for one scale.
    """

    scale: float
    zero_point: int
    groups: tuple[tuple[int, float, int], ...] = ()


@dataclass
class Value:
    """An edge: a ragged array with ``channels`` rows and one column per token or per sequence, or an output array."""

    name: str
    dtype: DType
    space: Space
    channels: int
    quantization: Quantization | None = None
    dynamic_scale: str | None = None  # name of the f32 value (1 channel) with the scale per token


@dataclass
class Tensor:
    """A constant with its storage: the logical array is ``data`` (f32), or ``data * scale`` (s8, one scale per row).

    ``data`` is f32, s8, u8 or s32, of logical shape ``[N, K]`` (weights, tables) or ``[N]``. ``encoding`` ``block``
    stores an s8 matrix as its nonzero 4x1 blocks (4 rows x 1 column).
    """

    name: str
    data: NDArray[Any]
    scale: NDArray[np.float32] | None = None
    encoding: Literal["dense", "block"] = "dense"


@dataclass
class Node:
    """One runtime op.

    ``inputs`` and ``outputs`` name values (the inputs of ``unpad`` name graph inputs); ``tensors`` maps a role to a
    tensor name.
    """

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    tensors: dict[str, str] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GraphInput:
    """An array that the caller feeds: int64 (int32 is accepted), ``[batch, sequence]``."""

    name: str
    role: Literal["ids", "mask", "types"]
    optional: bool = False


@dataclass(frozen=True)
class GraphOutput:
    """An array handed to the caller: ``value`` is in space ``output``; ``dims`` are symbolic names or sizes."""

    name: str
    value: str
    dims: tuple[str | int, ...]


@dataclass
class Graph:
    """A graph in topological order. Passes must leave it valid (``fastcpu.graph.verify``)."""

    name: str
    inputs: list[GraphInput] = field(default_factory=list)
    outputs: list[GraphOutput] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def producer(self, value: str) -> Node | None:
        """The node that writes ``value``, or None for an unknown name."""
        return next((node for node in self.nodes if value in node.outputs), None)

    def consumers(self, value: str) -> Iterator[Node]:
        """The nodes that read ``value``, in order."""
        return (node for node in self.nodes if value in node.inputs)

    def add_value(self, value: Value) -> str:
        """Register a value under its own name and return that name; a taken name is a ValueError."""
        if value.name in self.values:
            raise ValueError(f"value {value.name!r} exists already")
        self.values[value.name] = value
        return value.name

    def add_tensor(self, tensor: Tensor) -> str:
        """Register a tensor under its own name and return that name; a taken name is a ValueError."""
        if tensor.name in self.tensors:
            raise ValueError(f"tensor {tensor.name!r} exists already")
        self.tensors[tensor.name] = tensor
        return tensor.name
