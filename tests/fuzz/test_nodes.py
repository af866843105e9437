"""Every op with every value, tensor and attribute wrong in turn.

The verifier of graphs and the runtime must refuse the same, for ops that have a rule; what both accept must have the
bits of the reference. Of an op without a rule the verifier refuses nothing that the runtime accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu import FileFormatError, GraphError, InputError, _core
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph, Node, Quantization, Tensor, Value
from fastcpu.graph.rules import RULES
from tests.conformance.builder import feeds
from tests.reference import executor
from tests.runtime.hostile import Model, outcome, same

Mutant = tuple[str, Graph]

BAD_ATTRS: list[Any] = [0, -1, 1, 3, 2.5, 1 << 40, "x", True, None, [], {}, 1e-45, 3e38, 1e39, float("nan")]


def cases(op: str, count: int = 4) -> list[Graph]:
    """Graphs of the conformance tests that differ most: by their tensors, attributes and dtypes."""
    distinct: dict[Any, Graph] = {}
    for graph in import_module(f"tests.conformance.cases.{op}").graphs():
        node = next(node for node in graph.nodes if node.op == op)
        names = [] if op == "unpad" else node.inputs
        kinds = [(graph.values[name].dtype, graph.values[name].space) for name in (*names, *node.outputs)]
        distinct.setdefault(repr((sorted(node.tensors), sorted(node.attrs), kinds)), graph)
    graphs = list(distinct.values())
    return [graphs[i * len(graphs) // count] for i in range(count)] if len(graphs) > count else graphs


def wrong_values(value: Value) -> Iterator[tuple[str, Value]]:
    quantization = Quantization(0.02, 128)
    for dtype in ("f32", "u8", "s32"):
        if dtype != value.dtype:
            yield dtype, Value(value.name, dtype, value.space, value.channels, quantization if dtype == "u8" else None)  # type: ignore[arg-type]
    for space in ("tokens", "sequences", "output"):
        if space != value.space:
            yield space, Value(value.name, value.dtype, space, value.channels, value.quantization, value.dynamic_scale)  # type: ignore[arg-type]
    for channels in {1, value.channels - 1, value.channels + 1, 4 * value.channels, 1 << 20} - {0, value.channels}:
        yield (
            f"{channels} channels",
            Value(value.name, value.dtype, value.space, channels, value.quantization, value.dynamic_scale),
        )
    if value.dtype == "u8":
        yield "zero point", Value(value.name, "u8", value.space, value.channels, Quantization(0.02, 7))
        if value.channels > 1:
            groups = ((0, 0.02, 128), (value.channels // 2, 0.03, 128))
            yield "groups", Value(value.name, "u8", value.space, value.channels, Quantization(0.02, 128, groups))


def wrong_tensors(tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    name, data = tensor.name, tensor.data
    rows = np.ones(data.shape[:1], np.float32)
    yield "f32", Tensor(name, data.astype(np.float32))
    yield "s8", Tensor(name, np.clip(data, -127, 127).astype(np.int8), rows)
    yield "u8", Tensor(name, np.clip(data, 0, 255).astype(np.uint8))
    yield "s32", Tensor(name, np.clip(data, -1e9, 1e9).astype(np.int32))
    for what, array in (
        ("transposed", data.T),
        ("flat", data.reshape(-1)),
        ("deeper", data[None]),
        ("short", data[:-1]),
        ("narrow", data[..., :-1]),
        ("empty", data[:0]),
    ):
        scale = None if tensor.scale is None else np.resize(tensor.scale, array.shape[:1])
        yield what, Tensor(name, np.ascontiguousarray(array), scale, "dense")


def copies(graph: Graph, op: str) -> tuple[Graph, Node]:
    mutant = deepcopy(graph)
    return mutant, next(node for node in mutant.nodes if node.op == op)


def mutants(graph: Graph, op: str) -> Iterator[Mutant]:
    _, node = copies(graph, op)
    inputs = [] if op == "unpad" else node.inputs
    for name in dict.fromkeys((*inputs, *node.outputs)):
        for what, value in wrong_values(graph.values[name]):
            mutant, _ = copies(graph, op)
            mutant.values[name] = value
            yield f"{name} becomes {what}", mutant
    for role, name in node.tensors.items():
        for what, tensor in wrong_tensors(graph.tensors[name]):
            mutant, _ = copies(graph, op)
            mutant.tensors[name] = tensor
            yield f"tensor {role} becomes {what}", mutant
        mutant, changed = copies(graph, op)
        del changed.tensors[role]
        yield f"no tensor {role}", mutant
        mutant, changed = copies(graph, op)
        changed.tensors["unknown"] = name
        yield "an unknown tensor", mutant
    for name in (*node.attrs, "unknown"):
        for bad in BAD_ATTRS:
            mutant, changed = copies(graph, op)
            changed.attrs[name] = bad
            yield f"{name} = {bad!r}", mutant
        mutant, changed = copies(graph, op)
        changed.attrs.pop(name, None)
        yield f"no {name}", mutant
    for side in ("inputs", "outputs"):
        names: list[str] = getattr(node, side)
        others = [] if op == "unpad" and side == "inputs" else [name for name in graph.values if name not in names]
        replaced = [[*names[:i], other, *names[i + 1 :]] for i in range(len(names)) for other in others]
        for edited in ([], names[:-1], names[1:], names[::-1], [*names, names[0]], *replaced):
            if edited != names:
                mutant, changed = copies(graph, op)
                setattr(changed, side, list(edited))
                yield f"{side} {edited}", mutant


def complaint(graph: Graph) -> GraphError | None:
    """Why the verifier refuses a graph. Any other exception fails the test."""
    try:
        verify.check(graph)
    except GraphError as error:
        return error
    return None


def refusal(directory: Path) -> FileFormatError | GraphError | None:
    """Why the runtime does not open a model."""
    try:
        fastcpu.Session(directory, threads=1)
    except (FileFormatError, GraphError) as error:
        return error
    return None


@pytest.mark.parametrize("op", [row["name"] for row in _core.op_table()])
def test_the_runtime_and_the_verifier_refuse_the_same(op: str, tmp_path: Path) -> None:
    accepted = refused = 0
    batch = feeds(0, rows=5, length=20)
    for graph in cases(op):
        for what, mutant in mutants(graph, op):
            where = f"{graph.name}: {what}"
            directory = Model.of(mutant).write(tmp_path / "m")
            error, reason = refusal(directory), complaint(mutant)
            assert error is None or reason is not None or op not in RULES, (
                f"{where}: accepted by the verifier: {error!r}"
            )
            assert error is not None or reason is None, f"{where}: accepted by the runtime: {reason!r}"
            if error is not None:
                refused += 1
                continue
            result = outcome(directory, batch, threads=1)
            if isinstance(result, Exception):
                assert isinstance(result, InputError), f"{where}: {result!r}"  # a table without the row of a token
                continue
            with np.errstate(all="ignore"):
                expected = executor.run(mutant, batch)
            assert same(result, expected), f"{where}: wrong answer"
            accepted += 1
    print(f"{op}: {refused} mutants refused, {accepted} accepted")
    assert refused > 10
