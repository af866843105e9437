"""Model directory -> Graph. Every check is made by the C++ reader, which also hands over the bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu import _core
from fastcpu.export import blocks
from fastcpu.graph.ir import Graph, GraphInput, GraphOutput, Node, Quantization, Tensor, Value


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """The graph of a model directory, weights included; FileFormatError where it is damaged."""
    model = _core.read_model(os.fspath(path), data=True)
    graph = Graph(model["name"], [GraphInput(*row) for row in model["inputs"]])
    for name, value, dims in model["outputs"]:
        graph.outputs.append(GraphOutput(name, value, tuple(int(dim) if dim.isdecimal() else dim for dim in dims)))
    for name, described in model["values"].items():
        graph.add_value(_value(name, described))
    for name, described in model["tensors"].items():
        parts = described["parts"]
        data = parts["values"] if described["encoding"] == "dense" else _dense(described["shape"], parts)
        graph.add_tensor(Tensor(name, data, parts.get("scale"), described["encoding"]))
    graph.nodes = [Node(**described) for described in model["nodes"]]
    return graph


def _value(name: str, described: Mapping[str, Any]) -> Value:
    quantization = None
    if described["groups"]:
        groups = tuple(described["groups"])
        _, scale, zero_point = groups[0]
        quantization = Quantization(scale, zero_point, groups if len(groups) > 1 else ())
    space, channels = described["space"], described["channels"]
    return Value(name, described["dtype"], space, channels, quantization, described["dynamic"])


def _dense(shape: tuple[int, int], parts: Mapping[str, NDArray[Any]]) -> NDArray[np.int8]:
    """The s8 matrix of 4x1 blocks."""
    rows, columns = shape
    dense = np.zeros((rows // blocks.HEIGHT, columns, blocks.HEIGHT), np.int8)
    offsets = parts["offsets"].astype(np.int64)
    group = np.repeat(np.arange(rows // blocks.HEIGHT), offsets[1:] - offsets[:-1])
    dense[group, parts["index"]] = parts["values"]
    return np.ascontiguousarray(dense.transpose(0, 2, 1).reshape(rows, columns))
