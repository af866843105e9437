"""What every pass must do, alone and on graphs of all kinds; a new one is found in the ordered lists."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest

from fastcpu.graph import passes, verify
from fastcpu.graph.ir import Graph
from fastcpu.graph.passes import Pass
from fastcpu.graph.trace import Trace
from fastcpu.quantize import SCHEMES, observe
from tests.reference import executor, graphs

PASSES = dict(passes.PASSES + passes.PASSES_AFTER_QUANTIZATION)
GRAPHS: dict[str, Callable[[], Graph]] = {
    "written out": lambda: graphs.written_out().graph,
    "f32": graphs.encoder,
    **{scheme: lambda scheme=scheme: quantized(scheme) for scheme in SCHEMES},
}


def quantized(scheme: str) -> Graph:
    graph, chosen = graphs.encoder(), SCHEMES[scheme]()
    observed = observe(graph, [graphs.batch(20, 20)], executor.taps, chosen.wanted(graph))
    result, _ = chosen.apply(graph, observed)
    return result


def described(graph: Graph) -> list[str]:
    """All of a graph but the contents of its tensors."""
    return [repr(part) for part in (*graph.inputs, *graph.outputs, *graph.nodes, *graph.values.values())]


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("name", PASSES)
def test_bits_and_count(name: str, kind: str) -> None:
    """The reference computes the same bits, the count says whether anything changed, and once is enough."""
    graph = GRAPHS[kind]()
    before, feeds = copy.deepcopy(graph), graphs.batch()
    count = PASSES[name](graph, Trace())
    verify.check(graph)
    assert (described(graph) != described(before)) == (count > 0)
    expected = executor.run(before, feeds)
    for output, array in executor.run(graph, feeds).items():
        np.testing.assert_array_equal(array, expected[output], err_msg=output)
    assert PASSES[name](graph, Trace()) == 0


@pytest.mark.parametrize("name", PASSES)
def test_a_graph_of_the_suite_is_rewritten(name: str) -> None:
    """Otherwise the suite says nothing of the pass: add a graph."""
    rewrite: Pass = PASSES[name]
    assert any(rewrite(make(), Trace()) for make in GRAPHS.values())
