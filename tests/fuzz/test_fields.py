"""Every field of a graph holds something else in turn: the verifier says so with a GraphError, or the model opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu.errors import GraphError
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph
from tests.runtime.hostile import Model, seed_graph

JUNK: list[Any] = [
    None, True, 0, -1, 3, 1.5, float("nan"), 1e39, 10**400, "", "x", "a\0b", "\ud800", b"x", [], {}, (), [None], ["x"],
    {"x": None}, {1: 2}, (0, 1, 2), ((0, 0.5, "x"),), object(), np.float32(2), np.int64(2), np.zeros(2),
    np.zeros((2, 2), "S1"), np.array(None),
]  # fmt: skip


def parts(graph: Graph) -> list[Any]:
    """The graph, its inputs and outputs, and what each of its nodes, values and tensors consists of."""
    found: list[Any] = [graph, *graph.inputs, *graph.outputs, *graph.nodes, *graph.values.values()]
    found += [value.quantization for value in graph.values.values() if value.quantization is not None]
    return [*found, *graph.tensors.values()]


@contextmanager
def holding(part: Any, field: str, junk: Any) -> Iterator[None]:
    """The field of a part, frozen or not, holds junk in this context."""
    before = getattr(part, field)
    object.__setattr__(part, field, junk)
    try:
        yield
    finally:
        object.__setattr__(part, field, before)


@pytest.mark.parametrize("kind", ["static", "dynamic", "ops"])
def test_only_graph_errors(kind: str, tmp_path: Path) -> None:
    graph = deepcopy(seed_graph(kind))
    accepted = refused = 0
    for part, junk in product(parts(graph), JUNK):
        for field in fields(part):
            where = f"{type(part).__name__}.{field.name} of {getattr(part, 'name', part)} = {junk!r}"
            with holding(part, field.name, junk):
                try:
                    verify.check(graph)
                except GraphError:
                    refused += 1
                    continue
                except Exception as error:
                    raise AssertionError(f"{where}: {error!r}") from error
                accepted += 1
                try:
                    fastcpu.Session(Model.of(graph).write(tmp_path / "m"), threads=1)
                except Exception as error:
                    raise AssertionError(f"{where}: accepted by the verifier: {error!r}") from error
    print(f"{kind}: {refused} refused, {accepted} accepted")
    assert refused > 1000
    assert accepted > 10
    verify.check(graph)
