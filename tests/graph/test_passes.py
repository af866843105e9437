"""Passes: what they fuse and leave alone, and that the reference computes the same bits before and after."""

from __future__ import annotations

import copy
import logging

import numpy as np
import pytest

from fastcpu.errors import GraphError
from fastcpu.graph import passes, verify
from fastcpu.graph.ir import Graph, Node, Quantization, Value
from fastcpu.graph.passes import fuse_activation, fuse_quantize, fuse_residual, remove_dead
from fastcpu.graph.trace import Trace
from tests.reference import executor, graphs
from tests.reference.graphs import Builder


def test_all_passes_keep_the_bits() -> None:
    graph = graphs.written_out().graph
    verify.check(graph)
    feeds = graphs.batch()
    expected = executor.run(copy.deepcopy(graph), feeds)
    passes.run(graph)
    ops = [node.op for node in graph.nodes]
    assert ops == [
        "unpad",
        "embedding",
        "layernorm",
        "linear",
        "linear",
        "layernorm",
        "fake_quant",
        "repad",
        "linear",
        "repad",
    ]
    assert "unread.weight" not in graph.tensors
    assert graph.nodes[5].outputs == ["norm1.out", "x"]
    for name, array in executor.run(graph, feeds).items():
        np.testing.assert_array_equal(array, expected[name])
    before = [(node.op, node.name) for node in graph.nodes]
    passes.run(graph)
    assert before == [(node.op, node.name) for node in graph.nodes]


@pytest.mark.parametrize(
    ("rewrite", "reader", "reason"),
    [
        (fuse_activation.run, "fc1.out", "'fc1.out' is read by others too"),
        (fuse_residual.run, "sum.out", "'sum.out' is read by others too"),
    ],
)
def test_a_second_reader_prevents_fusion(rewrite: passes.Pass, reader: str, reason: str) -> None:
    builder = graphs.written_out()
    builder.output("second", reader)
    trace = Trace()
    assert rewrite(builder.graph, trace) == 0
    verify.check(builder.graph)
    assert reason in [miss.reason for miss in trace.misses]


def test_reasons() -> None:
    graph = graphs.written_out().graph
    linear = next(node for node in graph.nodes if node.name == "fc1")
    linear.attrs["activation"] = "tanh"
    graph.add_value(Value("x2", "u8", "tokens", 16, Quantization(0.05, 1)))
    graph.nodes.append(Node("quantize", "again", ["norm1.out"], ["x2"]))
    trace = Trace()
    fuse_activation.run(graph, trace)
    fuse_residual.run(graph, trace)
    fuse_quantize.run(graph, trace)
    assert [str(miss) for miss in trace.misses] == [
        "fuse_activation did not match at 'gelu': linear 'fc1' has an activation already",
        "fuse_residual did not match at 'norm0': its input comes from embedding 'embeddings', not from an add",
        "fuse_quantize did not match at 'again': layernorm 'norm1' has a u8 output already",
    ]
    assert trace.at("again") == "fuse_quantize: layernorm 'norm1' has a u8 output already"


def test_remove_dead_keeps_unpad_whole() -> None:
    builder = Builder("words")
    ids, _, _ = builder.unpad()
    builder.output("rows", builder.embedding([ids], [50], 16))
    assert remove_dead.run(builder.graph, Trace()) == 0
    verify.check(builder.graph)
    assert builder.graph.nodes[0].outputs == ["ids", "positions", "types"]


def test_removals_are_logged_but_no_misses(caplog: pytest.LogCaptureFixture) -> None:
    graph, trace = graphs.written_out().graph, Trace()
    with caplog.at_level(logging.DEBUG, "fastcpu.graph"):
        assert remove_dead.run(graph, trace) == 1
    assert trace.misses == []
    assert "remove_dead at 'unread': removed, since no output needs it" in caplog.messages


def test_a_broken_pass_is_named() -> None:
    def break_it(graph: Graph, trace: Trace) -> int:
        graph.nodes.pop(2)
        return 1

    with pytest.raises(GraphError, match="pass broken left an invalid graph: "):
        passes.run(graphs.encoder(), passes=(("broken", break_it),))
