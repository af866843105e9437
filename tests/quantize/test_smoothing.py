"""Smoothing: the factors, what they are folded into, the runtime's bits, and that it pays where channels differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu import QuantizationError
from fastcpu.export.writer import write_model
from fastcpu.graph import passes, verify
from fastcpu.graph.ir import Graph, Node, Tensor
from fastcpu.prune import prune_graph
from fastcpu.quantize import Selection, Static, observe, quantize_smoothed, quantize_static
from fastcpu.quantize.calibrate import largest_per_channel
from fastcpu.quantize.smoothing import (
    ALPHAS,
    LARGEST_FACTOR,
    factors,
    output_error,
    smoothable,
    smoothing_factor,
)
from tests.reference import executor, graphs

CALIBRATION = [graphs.batch(20, 20, seed=100 + i) for i in range(4)]


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def by_name(graph: Graph) -> dict[str, Node]:
    return {node.name: node for node in graph.nodes}


def smoothed(graph: Graph, alpha: Any = 0.5, **selection: Any) -> Graph:
    result, _ = quantize_smoothed(graph, CALIBRATION, executor.taps, Static(selection=Selection(**selection)), alpha)
    verify.check(result)
    return result


def plain(graph: Graph) -> Graph:
    """The static form without smoothing."""
    return quantize_static(graph, observe(graph, CALIBRATION, executor.taps, Static().wanted(graph)), Static())[0]


def error(graph: Graph, other: Graph) -> float:
    return output_error(graph, other, [graphs.batch(20, 20, seed=7)], executor.taps)


def with_outliers(head: graphs.Head = "hidden") -> Graph:
    """An encoder whose layernorms, but the last, write three channels far larger than the others."""
    graph = graphs.encoder(head=head, channels=32, inner=64)
    for name, tensor in graph.tensors.items():
        if name.endswith((".gamma", ".beta")) and name.rpartition(".")[0] != "layer1.norm2":
            tensor.data[[3, 11, 20]] *= 25
        elif name.endswith((".q.weight", ".k.weight", ".v.weight", ".fc1.weight")):
            tensor.data[:, [3, 11, 20]] /= 25
    return graph


# ---- factors ----


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_factors_are_those_of_the_paper_over_their_geometric_mean(alpha: float) -> None:
    x, w = f32(8, 0.5, 2, 3), f32(0.1, 0.2, 0.05, 0.4)
    expected = x.astype(np.float64) ** alpha / w.astype(np.float64) ** (1 - alpha)
    factor = smoothing_factor(x, w, alpha)
    assert factor.dtype == np.float32
    np.testing.assert_allclose(factor, expected / np.exp(np.log(expected).mean()), rtol=1e-6)


def test_channels_that_nothing_reaches_or_reads() -> None:
    factor = smoothing_factor(f32(8, 0, 2, 5, 0), f32(0.1, 0.2, 0.05, 0, 0), 0.5)
    assert factor[1] == factor[4] == 1
    assert factor[3] == LARGEST_FACTOR
    np.testing.assert_allclose(factor[[0, 2]], smoothing_factor(f32(8, 2), f32(0.1, 0.05), 0.5))
    assert (smoothing_factor(f32(0, 0), f32(1, 2), 0.5) == 1).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_factors_are_well_conditioned(alpha: float) -> None:
    factor = smoothing_factor(f32(3e38, 1e-45, 1, 1), f32(1e-45, 3e38, 1, 1), alpha)
    assert (factor >= 1 / LARGEST_FACTOR).all()
    assert (factor <= LARGEST_FACTOR).all()


# ---- graphs ----


def test_structure() -> None:
    graph = graphs.encoder(head="classifier")
    result = smoothed(graph)
    nodes = by_name(result)
    norms = [node for node in result.nodes if node.op == "layernorm"]
    assert [node.name for node in norms if "smooth" in node.tensors] == [
        "embeddings.norm", "layer0.norm1", "layer0.norm2", "layer1.norm1"
    ]  # fmt: skip
    assert len(nodes["layer1.norm2"].outputs) == 1
    factor = result.tensors[nodes["layer0.norm1"].tensors["smooth"]].data
    weight = result.tensors["layer0.fc1.weight"]
    expected = graph.tensors["layer0.fc1.weight"].data * factor
    assert weight.scale is not None
    np.testing.assert_allclose(weight.data * weight.scale[:, None], expected, atol=weight.scale.max())


def test_the_source_is_left_alone() -> None:
    graph = graphs.encoder()
    before = {name: tensor.data.copy() for name, tensor in graph.tensors.items()}
    nodes = [(node.name, dict(node.tensors), list(node.outputs)) for node in graph.nodes]
    smoothed(graph, "auto")
    assert nodes == [(node.name, node.tensors, node.outputs) for node in graph.nodes]
    assert set(before) == set(graph.tensors)
    for name, array in before.items():
        assert np.array_equal(array, graph.tensors[name].data)


@pytest.mark.parametrize("head", ["hidden", "embedding"])
def test_it_pays_where_channels_differ(head: graphs.Head) -> None:
    graph = with_outliers(head)
    for alpha in (0.5, "auto"):
        assert error(graph, smoothed(graph, alpha)) < 0.3 * error(graph, plain(graph))


def test_auto_takes_the_least_error_on_the_calibration_data() -> None:
    for graph in (graphs.encoder(), with_outliers()):
        result, record = quantize_smoothed(graph, CALIBRATION, executor.taps, Static(), "auto")
        errors = {row["alpha"]: row["error"] for row in record.smooth["errors"]}
        assert set(errors) == {None, *ALPHAS}
        assert record.smooth["alpha"] == min(errors, key=errors.__getitem__)
        assert output_error(graph, result, CALIBRATION, executor.taps) == min(errors.values())


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("sparsity", [0.0, 0.8])
@pytest.mark.parametrize("head", ["hidden", "qa", "classifier", "embedding"])
def test_the_runtime_gives_the_bits_of_the_reference(
    head: graphs.Head, sparsity: float, merge: bool, tmp_path: Path, each_isa: str
) -> None:
    graph = graphs.encoder(head=head)
    if sparsity:
        prune_graph(graph, sparsity)
    result = smoothed(graph)
    if merge:
        passes.run(result, passes=passes.PASSES_AFTER_QUANTIZATION)
    path, feeds = write_model(result, tmp_path / "m"), graphs.batch(7, 21)
    expected = executor.run(result, feeds)
    for execution, threads in (("sparse", 1), ("dense", 2), ("auto", 3)):
        got = fastcpu.Session(path, threads=threads, execution=execution).run(feeds)  # type: ignore[arg-type]
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array, err_msg=f"{name}, {execution}")


def test_factors_of_one_change_no_bit() -> None:
    graph, feeds = graphs.encoder(), graphs.batch()
    result = plain(graph)
    before = executor.run(result, feeds)
    norm = by_name(result)["layer0.norm1"]
    norm.tensors["smooth"] = result.add_tensor(Tensor("ones", np.ones(16, np.float32)))
    verify.check(result)
    for name, array in executor.run(result, feeds).items():
        assert np.array_equal(array, before[name])


def test_pruned_zeros_stay_zeros() -> None:
    graph = graphs.encoder(channels=32, inner=64)
    prune_graph(graph, 0.8)
    zero = {name: tensor.data == 0 for name, tensor in graph.tensors.items() if name.endswith(".weight")}
    result = smoothed(graph)
    for name, where in zero.items():
        tensor = result.tensors[name]
        assert not tensor.data[where].any(), name
        assert tensor.encoding == ("block" if name.startswith("layer") else "dense"), name


# ---- what is smoothed ----


def test_layers_with_the_same_weights_share_a_factor() -> None:
    graph = graphs.encoder()
    for role in ("q", "k", "v", "fc1"):
        by_name(graph)[f"layer1.{role}"].tensors["weight"] = f"layer0.{role}.weight"
    result = smoothed(graph)
    nodes = by_name(result)
    for one, other in (("embeddings.norm", "layer0.norm2"), ("layer0.norm1", "layer1.norm1")):
        factor, again = (result.tensors[nodes[name].tensors["smooth"]].data for name in (one, other))
        assert np.array_equal(factor, again)
    assert error(graph, result) < 1.5 * error(graph, plain(graph))


def test_a_weight_that_something_else_reads_is_not_smoothed() -> None:
    graph = graphs.encoder()
    by_name(graph)["layer1.q"].tensors["weight"] = "layer0.q.weight"
    values = [value for group, _ in smoothable(graph, Selection()) for value in group]
    assert values == ["layer0.norm1.out", "layer1.norm1.out"]
    by_name(graph)["layer1.fc1"].tensors["weight"] = "layer0.fc1.weight"
    values = [value for group, _ in smoothable(graph, Selection(ignore=["layer0.fc1"])) for value in group]
    assert values == []
    assert error(graph, smoothed(graph)) < 1.5 * error(graph, plain(graph))


def test_excluded_linears_read_the_value_as_it_is() -> None:
    graph = with_outliers()
    result = smoothed(graph, ignore=["layer0.q", "layer1.fc1"])
    nodes = by_name(result)
    assert nodes["layer0.q"].inputs == ["embeddings.norm.out"]
    assert np.array_equal(result.tensors["layer0.q.weight"].data, graph.tensors["layer0.q.weight"].data)
    assert "smooth" in nodes["embeddings.norm"].tensors
    assert "smooth" not in nodes["layer1.norm1"].tensors
    assert error(graph, result) < error(graph, plain(graph))


# ---- bad input ----


def test_nothing_to_smooth_is_a_typed_error() -> None:
    with pytest.raises(QuantizationError, match="nothing to smooth: no layernorm feeds a quantized linear"):
        smoothed(graphs.encoder(), only=["*.o", "*.fc2"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_weights_name_the_layer(bad: float) -> None:
    clean, graph = graphs.encoder(), graphs.encoder()
    graph.tensors["layer1.fc1.weight"].data[0, 0] = bad
    values = [value for group, _ in smoothable(graph, Selection()) for value in group]
    config = Static(
        smooth=factors(graph, Selection(), largest_per_channel(clean, CALIBRATION, executor.taps, values), 0.5)
    )
    observed = observe(clean, CALIBRATION, executor.taps, config.wanted(clean))
    with pytest.raises(QuantizationError, match=r"node 'layer1.fc1': tensor 'layer1.fc1.weight' holds NaN or infinity"):
        quantize_static(graph, observed, config)


def test_broken_values_and_no_calibration_are_typed_errors() -> None:
    graph = graphs.encoder()
    with pytest.raises(QuantizationError, match="calibration data is empty"):
        quantize_smoothed(graph, [], executor.taps, Static(), 0.5)
    graph.tensors["embeddings.norm.gamma"].data[0] = np.nan
    with pytest.raises(QuantizationError, match=r"value 'embeddings.norm.out' is NaN or infinite"):
        largest_per_channel(graph, CALIBRATION, executor.taps, ["embeddings.norm.out"])
