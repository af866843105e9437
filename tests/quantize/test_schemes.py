"""int8 graphs: structure, agreement with f32, and the runtime's bits against the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastcpu
from fastcpu import QuantizationError
from fastcpu.export.writer import write_model
from fastcpu.graph import passes, verify
from fastcpu.graph.ir import Graph, Tensor
from fastcpu.graph.passes import merge_qkv
from fastcpu.graph.trace import Trace
from fastcpu.prune import prune_graph
from fastcpu.quantize import (
    OBSERVERS,
    SCHEMES,
    Dynamic,
    RuntimeExecutor,
    Selection,
    Static,
    make_observer,
    observe,
    quantize_dynamic,
    quantize_static,
)
from fastcpu.quantize.calibrate import chunks
from tests.reference import executor, graphs

HEADS = ["hidden", "qa", "classifier", "embedding"]
CALIBRATION = [graphs.batch(20, 20, seed=100 + i) for i in range(4)]


def quantized(graph: Graph, scheme: str, selection: Selection | None = None) -> Graph:
    chosen = SCHEMES[scheme](selection=selection or Selection())
    wanted = chosen.wanted(graph)
    observed = observe(graph, CALIBRATION, executor.taps, wanted) if chosen.requires_calibration else {}
    result, _ = chosen.apply(graph, observed)
    verify.check(result)
    return result


def by_name(graph: Graph) -> dict[str, Any]:
    return {node.name: node for node in graph.nodes}


def similarity(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    x, y = (np.concatenate([array[array != -1e4].ravel() for array in arrays.values()]) for arrays in (a, b))
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("head", HEADS)
def test_int8_is_close_to_f32_and_leaves_the_source_alone(head: graphs.Head, scheme: str) -> None:
    graph, feeds = graphs.encoder(head=head), graphs.batch(12, 20)
    before = executor.run(graph, feeds)
    result = quantized(graph, scheme)
    assert similarity(before, executor.run(result, feeds)) > 0.99
    verify.check(graph)
    for name, array in executor.run(graph, feeds).items():
        assert np.array_equal(array, before[name])


@pytest.mark.parametrize("observer", sorted(OBSERVERS))
def test_every_observer_gives_a_good_model(observer: str) -> None:
    graph, feeds = graphs.encoder(), graphs.batch(12, 20)
    config = Static(make_observer(observer))
    observed = observe(graph, CALIBRATION, executor.taps, config.wanted(graph))
    result, record = quantize_static(graph, observed, config)
    assert similarity(executor.run(graph, feeds), executor.run(result, feeds)) > 0.99
    assert {"layer0.q.out", "layer0.attention.out", "layer0.fc1.out", "layer0.fc1.out before gelu"} <= set(
        record.ranges
    )
    assert record.kept_f32 == {}


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("sparsity", [0.0, 0.8])
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
@pytest.mark.parametrize("head", HEADS)
def test_the_runtime_gives_the_bits_of_the_reference(
    head: graphs.Head, scheme: str, sparsity: float, merge: bool, tmp_path: Path, each_isa: str
) -> None:
    graph = graphs.encoder(head=head, causal=head == "qa")
    if sparsity:
        prune_graph(graph, sparsity)
    result = quantized(graph, scheme)
    if merge:
        passes.run(result, passes=passes.PASSES_AFTER_QUANTIZATION)
    path, feeds = write_model(result, tmp_path / "m"), graphs.batch(7, 21)
    expected = executor.run(result, feeds)
    for execution in ("sparse", "dense"):
        got = fastcpu.Session(path, threads=2, execution=execution).run(feeds)
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array, err_msg=f"{name}, {execution}")


def test_static_structure() -> None:
    graph = graphs.encoder(head="classifier")
    result = quantized(graph, "static")
    nodes, values = by_name(result), result.values
    assert nodes["embeddings.norm"].outputs == ["embeddings.norm.out", "embeddings.norm.out.u8"]
    assert values["layer0.q.out"].dtype == "u8"
    for role in "kv":
        assert values[f"layer0.{role}.out"].quantization.zero_point == 128
    assert values["layer0.attention.out"].dtype == "u8"
    assert nodes["layer0.fc1"].attrs["activation"] == "table"
    assert result.tensors["layer0.fc1.table"].data.shape == (256,)
    assert values["layer0.fc1.out"].dtype == "u8"
    for name in ("layer0.o", "layer0.fc2", "classifier"):
        assert values[f"{name}.out"].dtype == "f32"
    assert nodes["layer0.norm1"].inputs == ["layer0.o.out", "embeddings.norm.out"]
    assert [node.op for node in result.nodes if node.op == "quantize"] == ["quantize"]
    assert nodes["pooler"].attrs["activation"] == "table"
    for name, tensor in result.tensors.items():
        if name.endswith(".weight") or (name.startswith("embeddings.") and tensor.data.ndim == 2):
            assert tensor.data.dtype == np.int8, name


def test_dynamic_structure() -> None:
    result = quantized(graphs.encoder(head="classifier"), "dynamic")
    nodes, values = by_name(result), result.values
    assert nodes["embeddings.norm"].outputs == [f"embeddings.norm.out{suffix}" for suffix in ("", ".u8", ".scale")]
    assert (
        nodes["layer0.q"].inputs == nodes["layer0.k"].inputs == ["embeddings.norm.out.u8", "embeddings.norm.out.scale"]
    )
    assert values["layer0.q.out"].dtype == values["layer0.attention.out"].dtype == "f32"
    assert nodes["layer0.fc1"].attrs["activation"] == "gelu"
    quantize = [node.inputs[0] for node in result.nodes if node.op == "quantize"]
    inside = [f"layer{i}.{name}.out" for i in range(2) for name in ("attention", "fc1")]
    assert quantize == [*inside, "cls.out", "pooler.out"]


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_excluded_linears_stay_f32(scheme: str) -> None:
    graph, feeds = graphs.encoder(), graphs.batch()
    result = quantized(graph, scheme, Selection(ignore=["layer0.q", "layer1.fc2"]))
    for node in result.nodes:
        if node.op == "linear":
            stays = node.name in ("layer0.q", "layer1.fc2")
            assert (result.tensors[node.tensors["weight"]].data.dtype == np.float32) == stays
    assert similarity(executor.run(graph, feeds), executor.run(result, feeds)) > 0.99
    if scheme == "static":
        assert result.values["layer0.attention.out"].dtype == "f32"
        assert by_name(result)["layer1.fc1"].attrs["activation"] == "gelu"
        assert result.values["layer1.attention.out"].dtype == "u8"


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_nothing_left_to_quantize_is_a_typed_error(scheme: str) -> None:
    with pytest.raises(QuantizationError, match="no linear to quantize"):
        quantized(graphs.encoder(), scheme, Selection(only=["nothing"]))
    with pytest.raises(QuantizationError, match="no linear to quantize"):
        quantized(quantized(graphs.encoder(), "dynamic"), scheme)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_nan_weights_name_the_layer(scheme: str) -> None:
    graph = graphs.encoder()
    graph.tensors["layer1.o.weight"].data[0, 0] = np.nan
    chosen = SCHEMES[scheme]()
    clean = graphs.encoder()
    observed = observe(clean, CALIBRATION, executor.taps, chosen.wanted(clean))
    with pytest.raises(QuantizationError, match=r"node 'layer1.o': tensor 'layer1.o.weight' holds NaN"):
        chosen.apply(graph, observed)


def test_missing_and_empty_calibration_are_typed_errors() -> None:
    graph = graphs.encoder()
    with pytest.raises(QuantizationError, match="was not observed"):
        quantize_static(graph, {}, Static())
    with pytest.raises(QuantizationError, match="calibration data is empty"):
        observe(graph, [], executor.taps, Static().wanted(graph))


def test_statistics_do_not_depend_on_the_batches() -> None:
    graph, wanted = graphs.encoder(), Static().wanted(graphs.encoder())
    rows = [{name: array[i : i + 1] for name, array in CALIBRATION[0].items()} for i in range(20)]
    one = observe(graph, [CALIBRATION[0]], RuntimeExecutor(), wanted)
    other = observe(graph, rows, RuntimeExecutor(), wanted)
    for name, histogram in one.items():
        assert np.array_equal(histogram.counts, other[name].counts)


def test_chunks_keep_all_rows_in_order() -> None:
    parts = list(chunks([{"input_ids": np.arange(10).reshape(5, 2)}, {"input_ids": np.arange(4).reshape(2, 2)}], 2))
    assert [part["input_ids"].shape[0] for part in parts] == [2, 2, 1, 2]


def test_the_runtime_taps_what_the_reference_taps() -> None:
    graph = graphs.encoder(head="classifier")
    names = ["embeddings.norm.out", "layer0.q.out", "layer1.fc1.out", "cls.out"]
    got = list(RuntimeExecutor()(graph, CALIBRATION[:2], names))
    expected = list(executor.taps(graph, CALIBRATION[:2], names, exact=True))
    assert len(got) == 2
    for a, b in zip(got, expected, strict=True):
        for name in names:
            np.testing.assert_array_equal(a[name], b[name])


def test_a_weight_shared_by_layers_is_stored_once() -> None:
    graph, feeds = graphs.encoder(), graphs.batch()
    by_name(graph)["layer1.q"].tensors["weight"] = "layer0.q.weight"
    before = executor.run(graph, feeds)
    result = quantized(graph, "static")
    assert "layer1.q.weight" not in result.tensors
    assert similarity(before, executor.run(result, feeds)) > 0.99
    kept = quantized(graph, "dynamic", Selection(ignore=["layer0.q"]))
    assert kept.tensors["layer0.q.weight"].data.dtype == np.float32
    assert kept.tensors["layer0.q.weight.s8"].data.dtype == np.int8
    assert similarity(before, executor.run(kept, feeds)) > 0.99


def test_a_table_tied_to_a_head_stays_dense() -> None:
    builder = graphs.Builder("tied")
    h = builder.layernorm("norm", builder.embedding(builder.unpad(types=False), [40, 24], 16))
    builder.output("logits", builder.linear("head", h, 40))
    del builder.graph.tensors["head.weight"]
    by_name(builder.graph)["head"].tensors["weight"] = "embeddings.ids"
    table = np.zeros((40, 16), np.float32)
    table[::7] = 1
    builder.graph.tensors["embeddings.ids"] = Tensor("embeddings.ids", table)
    result, _ = quantize_dynamic(builder.graph, Dynamic())
    verify.check(result)
    assert result.tensors["embeddings.ids"].encoding == "dense"


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_pruned_weights_are_stored_as_blocks(scheme: str) -> None:
    graph = graphs.encoder(channels=32, inner=64)
    prune_graph(graph, 0.8, ignore=["layer1.*"])
    result = quantized(graph, scheme)
    encodings = {name: tensor.encoding for name, tensor in result.tensors.items() if tensor.data.dtype == np.int8}
    for name, encoding in encodings.items():
        assert encoding == ("block" if name.startswith("layer0.") else "dense"), name


@pytest.mark.parametrize("sparsity", [0.0, 0.8])
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_merging_qkv_changes_no_bit(scheme: str, sparsity: float) -> None:
    graph, feeds = graphs.encoder(), graphs.batch()
    if sparsity:
        prune_graph(graph, sparsity)
    result = quantized(graph, scheme)
    before = executor.run(result, feeds)
    passes.run(result, passes=passes.PASSES_AFTER_QUANTIZATION)
    attention = by_name(result)["layer0.attention"]
    assert attention.inputs == ["layer0.attention.qkv.out"] * 3
    assert [attention.attrs[f"{role}_offset"] for role in "qkv"] == [0, 16, 32]
    assert result.tensors["layer0.attention.qkv.weight"].encoding == ("block" if sparsity else "dense")
    assert not any(name.startswith("layer0.q.") for name in (*result.values, *result.tensors))
    for name, array in executor.run(result, feeds).items():
        assert np.array_equal(array, before[name])
    assert merge_qkv.run(result, Trace()) == 0


def test_merging_takes_names_that_are_free() -> None:
    result = quantized(graphs.encoder(layers=1), "static")
    fc1 = by_name(result)["layer0.fc1"]
    for role, suffix in (("weight", "weight"), ("bias", "bias")):
        tensor = result.tensors.pop(fc1.tensors[role])
        tensor.name = fc1.tensors[role] = f"layer0.attention.qkv.{suffix}"
        result.add_tensor(tensor)
    fc1.name = "layer0.attention.qkv"
    feeds = graphs.batch()
    before = executor.run(result, feeds)
    passes.run(result, passes=passes.PASSES_AFTER_QUANTIZATION)
    assert "layer0.attention.qkv.1" in by_name(result)
    for name, array in executor.run(result, feeds).items():
        assert np.array_equal(array, before[name])


def test_merging_says_why_not() -> None:
    trace = Trace()
    assert merge_qkv.run(graphs.encoder(layers=1), trace) == 0
    assert "the linears read f32" in str(trace.misses[0])
    mixed = quantized(graphs.encoder(layers=1), "dynamic", Selection(ignore=["*.q"]))
    assert merge_qkv.run(mixed, trace) == 0
    assert "different values" in str(trace.misses[1])
    pruned = graphs.encoder(layers=1)
    prune_graph(pruned, 0.8, only=["*.q"])
    assert merge_qkv.run(quantized(pruned, "static"), trace) == 0
    assert "some weights are stored as blocks" in str(trace.misses[2])
