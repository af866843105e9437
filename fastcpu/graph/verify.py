"""Checks a graph against docs/format.md: types, names, order, spaces and shapes here, what each op asks in ``rules``.

A graph that passes can be written and executed: the reader and the constructors of the runtime refuse nothing more. Of
an op without a rule only its constructor knows what it asks; `fastcpu.export.writer` lets it judge before a model
takes its place.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any, get_args

import numpy as np

from fastcpu import _core
from fastcpu.errors import GraphError
from fastcpu.graph.ir import DType, Graph, GraphInput, GraphOutput, Node, Quantization, Space, Tensor, Value
from fastcpu.graph.limits import BLOCK_HEIGHT, MAX_BLOCK_COLUMNS, MAX_CHANNELS, MAX_COLUMNS, MAX_DIMENSIONS
from fastcpu.graph.rules import RULES, Check, f32, storage

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_ROLES = ("ids", "mask", "types")
_OPS = {row["name"]: row for row in _core.op_table()}
_SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Scales of values are normal f32, so that their inverse is finite."""


def check(graph: Graph) -> None:
    """GraphError, naming the node, value or tensor and what is expected of it, unless ``graph`` can be executed."""
    _check_types(graph)
    _check_inputs(graph)
    for value in graph.values.values():
        _check_value(graph, value)
    for tensor in graph.tensors.values():
        _check_tensor(tensor)
    scales = {value.dynamic_scale for value in graph.values.values() if value.dynamic_scale is not None}
    written: set[str] = set()
    names: set[str] = set()
    for node in graph.nodes:
        if node.name in names:
            raise GraphError(f"{node.op} '{node.name}': another node has this name")
        names.add(node.name)
        _check_node(graph, node, written, scales)
    for value in graph.values.values():
        if value.name not in written:
            raise GraphError(f"value '{value.name}' is never written")
    _check_outputs(graph)


# ---- types ----


def _typed(where: str, field: str, value: Any, kind: type | tuple[type, ...], what: str) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise GraphError(f"{where}: {field} is {value!r}; {what} expected")


def _name(where: str, field: str, value: Any) -> None:
    """A string that graph.json can hold."""
    _typed(where, field, value, str, "a string")
    if _UNSTORABLE.search(value):
        raise GraphError(f"{where}: {field} is {value!r}; names hold neither NUL nor surrogates")


def _names(where: str, field: str, values: Any) -> None:
    _typed(where, field, values, (list, tuple), "a list of names")
    for value in values:
        _name(where, field, value)


def _items(where: str, field: str, values: Any, kind: type) -> None:
    _typed(where, field, values, (list, tuple), f"a list of {kind.__name__}")
    for value in values:
        _typed(where, f"an item of {field}", value, kind, kind.__name__)


def _registry(field: str, items: Any, kind: type) -> None:
    """A dict of values or tensors under their names."""
    _typed("graph", field, items, dict, "a dict")
    for key, item in items.items():
        _typed("graph", f"{field}[{key!r}]", item, kind, kind.__name__)
        _name(f"{kind.__name__.lower()} {item.name!r}", "name", item.name)
        if key != item.name:
            raise GraphError(f"{kind.__name__.lower()} '{item.name}' is registered as '{key}'")


def _check_types(graph: Graph) -> None:
    """Every field holds what its annotation in ``ir`` says; the attributes of a node are left to its rule."""
    _name("graph", "name", graph.name)
    _items("graph", "inputs", graph.inputs, GraphInput)
    _items("graph", "outputs", graph.outputs, GraphOutput)
    _items("graph", "nodes", graph.nodes, Node)
    _registry("values", graph.values, Value)
    _registry("tensors", graph.tensors, Tensor)
    for item in graph.inputs:
        _name(f"input {item.name!r}", "name", item.name)
        _typed(f"input '{item.name}'", "optional", item.optional, bool, "a bool")
    for output in graph.outputs:
        where = f"output {output.name!r}"
        _name(where, "name", output.name)
        _name(where, "value", output.value)
        _typed(where, "dims", output.dims, (list, tuple), "a tuple")
        for dim in output.dims:
            _typed(where, "one of dims", dim, (str, int), "a name or a size")
            if isinstance(dim, str):
                _name(where, "one of dims", dim)
    for node in graph.nodes:
        _name(f"node {node.name!r}", "name", node.name)
        where = f"node '{node.name}'"
        _name(where, "op", node.op)
        _names(where, "inputs", node.inputs)
        _names(where, "outputs", node.outputs)
        for field, held in (("tensors", node.tensors), ("attrs", node.attrs)):
            _typed(where, field, held, dict, "a dict")
            _names(where, f"a key of {field}", list(held))
        _names(where, "an item of tensors", list(node.tensors.values()))
    for value in graph.values.values():
        where = f"value '{value.name}'"
        _typed(where, "channels", value.channels, int, "a number")
        if value.quantization is not None:
            _typed(where, "quantization", value.quantization, Quantization, "a Quantization")
            _check_quantization_types(where, value.quantization)
        if value.dynamic_scale is not None:
            _name(where, "dynamic_scale", value.dynamic_scale)
    for tensor in graph.tensors.values():
        where = f"tensor '{tensor.name}'"
        _typed(where, "data", tensor.data, np.ndarray, "an array")
        if tensor.scale is not None:
            _typed(where, "scale", tensor.scale, np.ndarray, "an array")


def _check_quantization_types(where: str, quantization: Quantization) -> None:
    groups = quantization.groups
    _typed(where, "groups", groups, (list, tuple), "a tuple")
    for group in groups:
        _typed(where, "a group", group, (list, tuple), "(first channel, scale, zero point)")
        if len(group) != 3:
            raise GraphError(f"{where}: a group is {group!r}; (first channel, scale, zero point) expected")
    for first, scale, zero_point in (*groups, (0, quantization.scale, quantization.zero_point)):
        _typed(where, "a first channel", first, int, "an integer")
        _typed(where, "a scale", scale, (float, np.floating), "a float")
        _typed(where, "a zero point", zero_point, int, "an integer")


def _one_of(where: str, field: str, value: Any, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise GraphError(f"{where}: {field} is {value!r}; one of {', '.join(choices)} expected")


# ---- inputs and outputs ----


def _check_inputs(graph: Graph) -> None:
    for item in graph.inputs:
        _one_of(f"input '{item.name}'", "role", item.role, _ROLES)
    roles = [item.role for item in graph.inputs]
    if roles.count("ids") != 1 or roles.count("mask") != 1 or roles.count("types") > 1:
        raise GraphError(
            f"graph '{graph.name}': inputs with roles {roles}; one ids, one mask and at most one types expected"
        )
    _distinct("inputs", [item.name for item in graph.inputs])


def _distinct(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise GraphError(f"two {what} are '{name}'")


def _check_outputs(graph: Graph) -> None:
    if not graph.outputs:
        raise GraphError(f"graph '{graph.name}' has no outputs")
    _distinct("outputs", [output.name for output in graph.outputs])
    _distinct("outputs with the value", [output.value for output in graph.outputs])
    for output in graph.outputs:
        if output.value not in graph.values or graph.values[output.value].space != "output":
            raise GraphError(f"output '{output.name}' is '{output.value}', which is not a value in space output")
        _check_dims(graph, output)
    named = {output.value for output in graph.outputs}
    for value in graph.values.values():
        if value.space == "output" and value.name not in named:
            raise GraphError(f"value '{value.name}' is in space output, but no output names it")


def _check_dims(graph: Graph, output: GraphOutput) -> None:
    """What a run gives: batch and perhaps sequence, which have names, and the number of channels."""
    repad = graph.producer(output.value)
    assert repad is not None, output.value  # every value is written
    if repad.op not in RULES:  # another op that writes outputs: it knows their shape, and the runtime compares
        return
    sizes: list[int | None] = [None, None] if graph.values[repad.inputs[0]].space == "tokens" else [None]
    if not repad.attrs.get("squeeze", False):
        sizes.append(graph.values[output.value].channels)
    symbolic = [isinstance(dim, str) and bool(dim.strip("0123456789")) for dim in output.dims]
    fits = len(sizes) == len(output.dims) and all(
        is_name if size is None else str(dim) == str(size)
        for size, dim, is_name in zip(sizes, output.dims, symbolic, strict=True)
    )
    if not fits:
        expected = ", ".join("a name" if size is None else str(size) for size in sizes)
        raise GraphError(f"output '{output.name}' has dims {list(output.dims)}; [{expected}] expected")


# ---- values, tensors, nodes ----


def _check_value(graph: Graph, value: Value) -> None:
    where = f"value '{value.name}'"
    _one_of(where, "dtype", value.dtype, get_args(DType))
    _one_of(where, "space", value.space, get_args(Space))
    if not 1 <= value.channels <= MAX_CHANNELS:
        raise GraphError(f"{where} has {value.channels} channels; 1 to {MAX_CHANNELS} expected")
    if value.dtype == "u8":
        if (value.quantization is None) == (value.dynamic_scale is None):
            raise GraphError(f"{where} is u8 and needs either a scale or the name of its scales per token")
        if value.dynamic_scale is not None:
            scale = graph.values.get(value.dynamic_scale)
            if scale is None:
                raise GraphError(f"{where} has its scales in '{value.dynamic_scale}', which does not exist")
            if (scale.dtype, scale.channels) != ("f32", 1):
                raise GraphError(f"{where} has its scales in '{scale.name}': f32 with one channel expected")
    elif value.quantization is not None or value.dynamic_scale is not None:
        raise GraphError(f"{where} is {value.dtype} and has a scale")
    if value.quantization is None:
        return
    quantization = value.quantization
    groups = quantization.groups or ((0, quantization.scale, quantization.zero_point),)
    starts = [first for first, _, _ in groups]
    if starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= value.channels:
        raise GraphError(f"{where} has groups that start at channels {starts}, of {value.channels}")
    for _, scale_of_group, zero_point in groups:
        if not (_SMALLEST_SCALE <= f32(scale_of_group) < math.inf) or not 0 <= zero_point <= 255:
            raise GraphError(
                f"{where} has scale {scale_of_group} and zero point {zero_point}; "
                "a positive normal f32 and a u8 zero point expected"
            )


def _check_tensor(tensor: Tensor) -> None:
    where = f"tensor '{tensor.name}'"
    if tensor.name == "__metadata__":
        raise GraphError(f"{where}: this name is taken by the file format")
    _one_of(where, "encoding", tensor.encoding, ("dense", "block"))
    kind = storage(tensor)
    shape = tensor.data.shape
    if len(shape) > MAX_DIMENSIONS:
        raise GraphError(f"{where} has {len(shape)} axes; at most {MAX_DIMENSIONS}")
    if (kind == "s8") != (tensor.scale is not None):
        raise GraphError(f"{where} is {kind} {'with' if tensor.scale is not None else 'without'} a scale per row")
    if tensor.scale is not None:
        if not shape or tensor.scale.shape != shape[:1] or tensor.scale.dtype != np.float32:
            found = f"a scale of shape {list(tensor.scale.shape)}, {tensor.scale.dtype}"
            raise GraphError(f"{where} of shape {list(shape)} has {found}; one f32 per row expected")
        if not (np.isfinite(tensor.scale) & (tensor.scale > 0)).all():
            raise GraphError(f"{where} has a scale that is not a positive number")
    if kind == "f32" and not np.isfinite(tensor.data).all():
        raise GraphError(f"{where} contains NaN or infinite values")
    if tensor.encoding == "block" and (
        kind != "s8" or len(shape) != 2 or shape[0] % BLOCK_HEIGHT or shape[1] > MAX_BLOCK_COLUMNS
    ):
        raise GraphError(
            f"{where} is {kind} {list(shape)}: blocks need an s8 matrix whose rows are a multiple of {BLOCK_HEIGHT}, "
            f"with at most {MAX_BLOCK_COLUMNS} columns"
        )


def _check_node(graph: Graph, node: Node, written: set[str], scales: set[str]) -> None:
    where = f"{node.op} '{node.name}'"
    if node.op not in _OPS:
        raise GraphError(f"{where}: no such op")
    if not _OPS[node.op]["graph_inputs"]:
        for name in node.inputs:
            if name not in graph.values:
                raise GraphError(f"{where}: reads '{name}', which does not exist")
            if name not in written:
                raise GraphError(f"{where}: reads '{name}' before it is written")
    for name in node.outputs:
        if name not in graph.values:
            raise GraphError(f"{where}: writes '{name}', which does not exist")
        if name in written:
            raise GraphError(f"{where}: writes '{name}' a second time")
        written.add(name)
    for role, name in node.tensors.items():
        if name not in graph.tensors:
            raise GraphError(f"{where}: tensor '{role}' is '{name}', which does not exist")
        shape = graph.tensors[name].data.shape
        if len(shape) == 2 and shape[1] > MAX_COLUMNS:
            raise GraphError(f"{where}: tensor '{role}' has {shape[1]} columns; at most {MAX_COLUMNS}")
    if node.op in RULES:
        RULES[node.op](Check(graph, node, scales))
    else:
        _check_attributes(where, node)


def _check_attributes(where: str, node: Node) -> None:
    """What graph.json can hold; their names and meanings are known to the op alone."""
    for name, value in node.attrs.items():
        if isinstance(value, str):
            _name(where, f"attribute '{name}'", value)
        elif not isinstance(value, (bool, int, float)) or not abs(value) <= sys.float_info.max:  # NaN too
            raise GraphError(f"{where}: attribute '{name}' is {value!r}; a string, a flag or a finite number expected")
