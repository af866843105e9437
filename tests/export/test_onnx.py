"""ONNX files of graphs, run by ONNX Runtime, against the runtime on real tokens."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastcpu
from fastcpu.errors import InputError, OutputError
from fastcpu.export.reader import read_graph
from fastcpu.export.writer import write_model
from fastcpu.frontend import onnx_import
from fastcpu.graph.ir import Graph, Quantization
from fastcpu.graph.passes import merge_qkv
from fastcpu.graph.trace import Trace
from fastcpu.prune import prune_graph
from fastcpu.quantize import SCHEMES, Static, observe, quantize_smoothed
from fastcpu.quantize.table import make_table
from tests.conformance.builder import feeds as conformance_feeds
from tests.reference import executor, graphs
from tests.reference.ort import open_exact

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from fastcpu.export.onnx import export_onnx, has_quantization_points, to_onnx  # noqa: E402  (needs onnx)
from fastcpu.export.onnx_ops import OPS  # noqa: E402

Arrays = dict[str, NDArray[Any]]
HEADS = ["hidden", "qa", "classifier", "embedding"]


def quantized(graph: Graph, scheme: str) -> Graph:
    config = SCHEMES[scheme]()
    calibration = [graphs.batch(16, 20, seed=100 + i) for i in range(4)]
    observed = observe(graph, calibration, executor.taps, config.wanted(graph)) if config.requires_calibration else {}
    result, _ = config.apply(graph, observed)
    merge_qkv.run(result, Trace())
    return result


def run_onnx(model: Any, feeds: Arrays) -> Arrays:
    onnx.checker.check_model(model, full_check=True)
    session = open_exact(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    given = {item.name: feeds.get(item.name, np.zeros_like(feeds["input_ids"])) for item in session.get_inputs()}
    return dict(zip(names, session.run(names, given), strict=True))


def real_rows(array: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
    """What stands on real tokens, or belongs to sequences that have any."""
    if array.shape[:2] == mask.shape:
        return array[mask != 0]
    return array[mask.any(axis=1)]


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-30))


def compare(graph: Graph, form: Any, feeds: Arrays, tmp_path: Path) -> None:
    path = write_model(graph, tmp_path / "model")
    ours = fastcpu.Session(path, threads=1).run(feeds)
    export_onnx(path, tmp_path / "model.onnx", form)
    theirs = run_onnx(onnx.load(str(tmp_path / "model.onnx")), feeds)
    assert set(theirs) == set(ours)
    for name, array in ours.items():
        assert theirs[name].shape == array.shape, name
        expected, got = (real_rows(each, feeds["attention_mask"]) for each in (array, theirs[name]))
        if not has_quantization_points(graph):
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4, err_msg=name)
        else:
            assert cosine(got, expected) >= 0.999, name


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_f32_models_give_the_same_answers(head: graphs.Head, causal: bool, tmp_path: Path) -> None:
    compare(graphs.encoder(head=head, causal=causal), "fp32", graphs.batch(5, 19), tmp_path)


@pytest.mark.parametrize(
    ("scheme", "form"),
    [
        ("static", "fp32"),
        ("static", "qdq"),
        ("static", "matmulinteger"),
        ("dynamic", "fp32"),
        ("dynamic", "matmulinteger"),
    ],
)
@pytest.mark.parametrize("head", HEADS)
def test_int8_models_give_nearly_the_same_answers(head: graphs.Head, scheme: str, form: str, tmp_path: Path) -> None:
    graph = graphs.encoder(head=head)
    prune_graph(graph, 0.5)
    compare(quantized(graph, scheme), form, graphs.batch(12, 20), tmp_path)


@pytest.mark.parametrize("form", ["fp32", "qdq", "matmulinteger"])
def test_smoothed_models_give_nearly_the_same_answers(form: str, tmp_path: Path) -> None:
    calibration = [graphs.batch(16, 20, seed=100 + i) for i in range(4)]
    graph, _ = quantize_smoothed(graphs.encoder(head="embedding"), calibration, executor.taps, Static(), 0.5)
    merge_qkv.run(graph, Trace())
    compare(graph, form, graphs.batch(12, 20), tmp_path)


@pytest.mark.parametrize(
    "op", ["add", "attention", "embedding", "l2norm", "layernorm", "linear", "pointwise", "pool", "repad", "unpad"]
)
def test_f32_exports_can_be_imported(op: str, tmp_path: Path, seed: int) -> None:
    count = 0
    for number, graph in enumerate(import_module(f"tests.conformance.cases.{op}").graphs()):
        if has_quantization_points(graph) or any(node.attrs.get("causal") for node in graph.nodes):
            continue
        again = onnx_import.import_proto(to_onnx(graph), graph.name)
        feeds = conformance_feeds(seed + number)
        paths = [write_model(each, tmp_path / f"{number}.{i}") for i, each in enumerate((graph, again))]
        expected, got = (fastcpu.Session(path).run(feeds) for path in paths)
        for name, array in expected.items():
            real = [real_rows(each[name], feeds["attention_mask"]) for each in (got, expected)]
            np.testing.assert_allclose(*real, rtol=0, atol=1e-4, err_msg=name)
            assert got[name].shape == array.shape
        count += 1
    assert count > 0


def test_left_padding_and_holes(tmp_path: Path) -> None:
    feeds = graphs.batch(4, 12)
    feeds["attention_mask"][1] = [0, 0, 0, *[1] * 9]
    feeds["attention_mask"][2] = [1, 0, 1, 1, 0, *[1] * 5, 0, 0]
    for head in ("hidden", "classifier", "embedding"):
        compare(graphs.encoder(head=head), "fp32", feeds, tmp_path / head)  # type: ignore[arg-type]


@pytest.mark.parametrize(("activation", "op"), [("relu", "Relu"), ("gelu", "Erf"), ("tanh", "Tanh")])
def test_a_table_on_a_coarse_grid_keeps_its_function(activation: str, op: str) -> None:
    graph = quantized(graphs.encoder(head="hidden"), "static")
    linears = [node for node in graph.nodes if node.attrs.get("activation") == "table"]
    source, target = Quantization(0.16, 13), Quantization(0.16, 1)  # outliers: GELU is ReLU within a code
    for node in linears:
        node.attrs.update(table_scale=source.scale, table_zero_point=source.zero_point)
        value = graph.values[node.outputs[0]]
        graph.values[node.outputs[0]] = replace(value, quantization=target)
        table = graph.tensors[node.tensors["table"]]
        graph.tensors[node.tensors["table"]] = replace(table, data=make_table(activation, source, target))
    ops = {node.op_type for node in to_onnx(graph, "qdq").graph.node}
    assert linears
    assert ops & {"Relu", "Erf", "Tanh"} == {op}


@pytest.mark.parametrize("op", OPS)
def test_every_form_answers_as_the_runtime(op: str, tmp_path: Path, seed: int) -> None:
    for number, graph in enumerate(import_module(f"tests.conformance.cases.{op}").graphs()):
        dynamic = any(value.dynamic_scale is not None for value in graph.values.values())
        form = "fp32" if not has_quantization_points(graph) else "matmulinteger" if dynamic else "qdq"
        compare(graph, form, conformance_feeds(seed + number), tmp_path / str(number))


def kinds(graph: Graph, form: Any) -> list[str]:
    return [node.op_type for node in to_onnx(graph, form).graph.node]


def test_each_form_has_the_nodes_that_engines_look_for() -> None:
    graph = quantized(graphs.encoder(layers=1), "static")
    assert [node.op for node in graph.nodes].count("linear") == 4, "q, k and v are merged"
    plain, qdq, integer = (kinds(graph, form) for form in ("fp32", "qdq", "matmulinteger"))
    assert plain.count("MatMul") == 6 + 2, "six linears, q k' and p v"
    assert {"Erf", "LayerNormalization", "Softmax"} <= set(plain)
    assert not {"QuantizeLinear", "DequantizeLinear", "MatMulInteger"} & set(plain)
    # h, q, k, v, the attention's output, h, what the activation reads and writes; 6 weights are dequantized as well
    assert qdq.count("QuantizeLinear") == 8
    assert qdq.count("DequantizeLinear") == 8 + 6
    assert integer.count("MatMulInteger") == 6
    assert integer.count("QuantizeLinear") == 4, "what linears multiply"


def test_zeros_stay_zeros() -> None:
    graph = graphs.encoder(layers=1)
    prune_graph(graph, 0.5)
    proto = to_onnx(quantized(graph, "static"), "fp32")
    weights = {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}
    matrix = weights["layer0.fc1.weight"]
    assert matrix.shape == (16, 32)
    assert (matrix == 0).mean() == 0.5


def test_batch_and_sequence_are_dynamic() -> None:
    graph = graphs.encoder(head="qa")
    proto = to_onnx(graph)
    for rows, length in ((1, 1), (3, 24)):
        assert run_onnx(proto, graphs.batch(rows, length))["start_logits"].shape == (rows, length)


def test_a_model_reads_back_as_it_was_written(tmp_path: Path) -> None:
    graph = graphs.encoder(head="qa")
    prune_graph(graph, 0.8)
    for number, written in enumerate((graph, quantized(graph, "static"), quantized(graph, "dynamic"))):
        read = read_graph(write_model(written, tmp_path / str(number)))
        assert (read.name, read.inputs, read.outputs) == (written.name, written.inputs, written.outputs)
        assert list(read.values) == list(written.values)
        assert [(node.op, node.name, node.inputs, node.outputs, node.tensors) for node in read.nodes] == [
            (node.op, node.name, node.inputs, node.outputs, node.tensors) for node in written.nodes
        ]
        for name, tensor in written.tensors.items():
            np.testing.assert_array_equal(read.tensors[name].data, tensor.data)
            assert read.tensors[name].data.dtype == tensor.data.dtype
            assert read.tensors[name].encoding == tensor.encoding
        assert fastcpu.Session(write_model(read, tmp_path / f"{number}.again")).inputs


def test_forms_that_cannot_hold_a_model_are_refused(tmp_path: Path) -> None:
    graph = graphs.encoder(layers=1)
    with pytest.raises(InputError, match="not quantized"):
        to_onnx(graph, "qdq")
    with pytest.raises(InputError, match="one scale per token"):
        to_onnx(quantized(graph, "dynamic"), "qdq")
    with pytest.raises(InputError, match="unknown form 'int4'"):
        to_onnx(graph, "int4")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match=r"nowhere"):
        export_onnx(graph, tmp_path / "nowhere" / "model.onnx")
    assert list(tmp_path.iterdir()) == []
