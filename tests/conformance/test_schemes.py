"""What every registered quantization scheme does, beside what tests/quantize/test_schemes.py compares bit by bit."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

import fastcpu
from fastcpu import QuantizationError
from fastcpu.export.writer import write_model
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph
from fastcpu.pipeline import QUANTIZE
from fastcpu.quantize import SCHEMES, Record, Selection, observe
from fastcpu.recipe import Quantize
from tests.reference import executor, graphs

EVERY = pytest.mark.parametrize("name", sorted(SCHEMES))
CALIBRATION = [graphs.batch(20, 20, seed=100 + i) for i in range(2)]


def applied(name: str, graph: Graph, selection: Selection | None = None) -> tuple[Graph, Record]:
    scheme = SCHEMES[name](selection=selection or Selection())  # type: ignore[call-arg]
    observed = observe(graph, CALIBRATION, executor.taps, scheme.wanted(graph)) if scheme.requires_calibration else {}
    return scheme.apply(graph, observed)


def contents(graph: Graph) -> dict[str, bytes]:
    return {name: tensor.data.tobytes() for name, tensor in graph.tensors.items()}


@EVERY
def test_every_way_to_name_a_scheme_knows_it(name: str) -> None:
    assert name in QUANTIZE
    assert name in get_args(get_type_hints(Quantize)["scheme"])


@EVERY
def test_each_linear_is_s8_or_the_record_says_why_not(name: str) -> None:
    graph = graphs.encoder(head="classifier")
    result, record = applied(name, graph, Selection(ignore=["layer0.fc?"]))
    linears = [node for node in result.nodes if node.op == "linear"]
    f32 = {node.name for node in linears if result.tensors[node.tensors["weight"]].data.dtype == np.float32}
    assert f32 == set(record.kept_f32) == {"layer0.fc1", "layer0.fc2"}
    assert len(linears) == sum(node.op == "linear" for node in graph.nodes)
    for value, chosen in record.ranges.items():
        assert chosen["low"] <= 0 <= chosen["high"], value
        assert 0 <= chosen["zero_point"] <= 255, value
        assert chosen["scale"] == np.float32(chosen["scale"]) > 0, value
        assert chosen["seen_low"] is None or chosen["seen_low"] <= chosen["seen_high"], value
        assert chosen["error"] is None or 0 <= chosen["error"] < 1e-2, value
        assert (chosen["seen_low"], chosen["error"]) != (None, None), value


@EVERY
def test_the_same_graph_gives_the_same_model_and_stays_as_it_is(name: str) -> None:
    graph = graphs.encoder()
    before, nodes = contents(graph), [repr(node) for node in graph.nodes]
    first, second = (applied(name, graph)[0] for _ in range(2))
    assert contents(graph) == before
    assert [repr(node) for node in graph.nodes] == nodes
    assert contents(first) == contents(second)
    assert [repr(node) for node in first.nodes] == [repr(node) for node in second.nodes]


@EVERY
def test_it_wants_statistics_only_if_it_says_so(name: str) -> None:
    scheme, graph = SCHEMES[name](), graphs.encoder()
    wanted = scheme.wanted(graph)
    assert bool(wanted.values or wanted.linears) == scheme.requires_calibration
    if scheme.requires_calibration:
        with pytest.raises(QuantizationError, match=r"value '.+' was not observed"):
            scheme.apply(graph, {})
    else:
        verify.check(scheme.apply(graph, {})[0])


@EVERY
def test_weights_of_zero_run(name: str, tmp_path: Path) -> None:
    """A layer that pruning has emptied, and so values that are constant while they are observed."""
    graph = graphs.encoder()
    for tensor in ("layer0.fc1.weight", "layer1.v.weight"):
        graph.tensors[tensor].data[:] = 0
    result, _ = applied(name, graph)
    verify.check(result)
    answers = fastcpu.Session(write_model(result, tmp_path / "model")).run(graphs.batch(5, 9))
    expected = executor.run(result, graphs.batch(5, 9))
    for output, array in answers.items():
        np.testing.assert_array_equal(array, expected[output], err_msg=output)


@EVERY
def test_options_are_frozen(name: str) -> None:
    scheme = SCHEMES[name]()
    for field in fields(scheme):  # type: ignore[arg-type]
        with pytest.raises(FrozenInstanceError):
            setattr(scheme, field.name, None)
