"""Model directory -> Graph. The C++ reader checks the model and hands over the bytes; the header is read here too."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcpu import _core
from fastcpu.errors import FileFormatError, ResourceError
from fastcpu.graph.ir import Graph, GraphInput, GraphOutput, Node, Quantization, Tensor, Value
from fastcpu.graph.limits import BLOCK_HEIGHT

GRAPH_FILE = "graph.json"


@dataclass(frozen=True)
class Header:
    """What graph.json says about itself.

    Attributes:
        version: of the format.
        producer: what wrote it, if it says so.
    """

    version: int
    producer: str | None


def read_header(path: str | os.PathLike[str]) -> Header:
    """The header of a model directory, of whatever version and whether or not the rest of it is in order.

    Raises:
        FileFormatError: its graph.json is not that of a fastcpu model.
        ResourceError: there is no graph.json, or it cannot be read.
    """
    file = Path(path) / GRAPH_FILE
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise ResourceError(f"cannot open {file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{file}: not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != "fastcpu":
        raise FileFormatError(f"{file}: not a fastcpu model")
    version, producer = document.get("version"), document.get("producer")
    if not isinstance(version, int) or not isinstance(producer, str | None):
        raise FileFormatError(f"{file}: version must be an integer, and producer a string")
    return Header(version, producer)


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
    dense = np.zeros((rows // BLOCK_HEIGHT, columns, BLOCK_HEIGHT), np.int8)
    offsets = parts["offsets"].astype(np.int64)
    group = np.repeat(np.arange(rows // BLOCK_HEIGHT), offsets[1:] - offsets[:-1])
    dense[group, parts["index"]] = parts["values"]
    return np.ascontiguousarray(dense.transpose(0, 2, 1).reshape(rows, columns))
