"""Files with MatMulInteger: those of quantize_dynamic, our own exports, and hand-written ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import fastcpu
from fastcpu import frontend
from fastcpu.errors import InputError, UnsupportedOpError
from fastcpu.export.onnx import export_onnx
from fastcpu.export.reader import read_graph
from fastcpu.frontend import onnx_import, torch_export
from fastcpu.graph.ir import Graph
from fastcpu.graph.trace import Trace
from tests.frontend import tiny
from tests.reference import executor


def _cosine(a: NDArray[Any], b: NDArray[Any], mask: NDArray[Any]) -> float:
    if a.shape[:2] == mask.shape:
        a, b = a[mask != 0], b[mask != 0]
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))


def _linears(graph: Graph) -> list[Any]:
    return [node for node in graph.nodes if node.op == "linear"]


# ---- one scale for a whole batch ----


def _dynamic_file(architecture: str, path: Path, **options: Any) -> onnx.ModelProto:
    """The tiny model as ONNX Runtime's own tool quantizes it."""
    from onnxruntime.quantization import quantize_dynamic

    source = path.with_name("f32.onnx")
    onnx.save(torch_export.to_onnx(tiny.model(architecture)), source)
    quantize_dynamic(source, path, **options)
    return onnx.load(path)


@pytest.mark.parametrize(
    ("architecture", "unsigned", "per_channel"),
    [
        ("BertForSequenceClassification", False, False),
        ("DistilBertForQuestionAnswering", True, True),
        ("ElectraForTokenClassification", False, True),
        ("MPNetModel", True, False),
        ("RobertaForMaskedLM", False, True),
    ],
)
def test_dynamic_files_per_token(
    architecture: str, unsigned: bool, per_channel: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    from onnxruntime.quantization import QuantType

    path = tmp_path / "dynamic.onnx"
    kind = QuantType.QUInt8 if unsigned else QuantType.QInt8
    proto = _dynamic_file(architecture, path, weight_type=kind, per_channel=per_channel)
    with pytest.raises(
        UnsupportedOpError, match=r"one scale for a whole batch, padding included, .* --per-token"
    ) as info:
        frontend.load(path)
    assert info.value.op == "DynamicQuantizeLinear"

    compiled = fastcpu.compile(path, tmp_path / "out", per_token=True)
    assert compiled.report["options"]["per_token"] is True
    graph = read_graph(compiled.directory)
    assert all(graph.values[node.inputs[0]].dynamic_scale for node in _linears(graph))
    feeds = {k: v for k, v in tiny.feeds(rng).items() if k in {value.name for value in proto.graph.input}}
    answers, reference = fastcpu.Session(compiled).run(feeds), executor.run(graph, feeds)
    for name, array in tiny.run_onnx(proto, feeds).items():
        np.testing.assert_array_equal(answers[name], reference[name])
        assert _cosine(answers[name], array, feeds["attention_mask"]) > 0.999, name


def test_the_integers_of_a_file_stay_as_they_are(tmp_path: Path) -> None:
    proto = _dynamic_file("DistilBertModel", tmp_path / "dynamic.onnx", per_channel=True)
    trace = Trace()
    graph = onnx_import.import_proto(proto, "dynamic", trace=trace, per_token=True)
    held = [numpy_helper.to_array(item) for item in proto.graph.initializer if item.data_type == TensorProto.INT8]
    for node in _linears(graph):
        weight = graph.tensors[node.tensors["weight"]].data
        assert any(np.array_equal(weight, array.T) for array in held), node.name
    assert not any("symmetric" in miss.reason for miss in trace.misses)
    embedding = next(node for node in graph.nodes if node.op == "embedding")
    assert graph.tensors[embedding.tensors["table0"]].data.dtype == np.int8


def test_weights_that_are_not_symmetric_are_rounded_again(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantType

    proto = _dynamic_file("DistilBertModel", tmp_path / "dynamic.onnx", weight_type=QuantType.QUInt8)
    trace = Trace()
    graph = onnx_import.import_proto(proto, "dynamic", trace=trace, per_token=True)
    assert sum("rounded to s8 once more" in miss.reason for miss in trace.misses) == len(_linears(graph))


def test_per_token_is_refused_where_nothing_is_quantized_at_run_time(tmp_path: Path) -> None:
    onnx.save(torch_export.to_onnx(tiny.model("DistilBertModel")), tmp_path / "f32.onnx")
    with pytest.raises(InputError, match="f32 has none"):
        frontend.load(tmp_path / "f32.onnx", per_token=True)
    for model in (tmp_path, tiny.model("DistilBertModel")):
        with pytest.raises(InputError, match=r"per_token is for \.onnx files"):
            frontend.load(model, per_token=True)


# ---- our own exports, compiled again ----


@pytest.mark.parametrize(
    ("scheme", "form"), [("static", "qdq"), ("static", "matmulinteger"), ("dynamic", "matmulinteger")]
)
@pytest.mark.parametrize(
    "architecture", ["BertForSequenceClassification", "MPNetModel", "RobertaForTokenClassification"]
)
def test_exports_compile_again(
    architecture: str, scheme: str, form: Any, tmp_path: Path, rng: np.random.Generator
) -> None:
    module = tiny.model(architecture)
    names = {graph_input.name for graph_input in frontend.load(module).inputs}
    batches = [{name: array for name, array in tiny.feeds(rng).items() if name in names} for _ in range(4)]
    calibration = batches if scheme == "static" else None
    first = fastcpu.compile(module, tmp_path / "first", quantize=scheme, calibration=calibration, sparsity=0.7)
    export_onnx(first, tmp_path / "first.onnx", form)
    second = fastcpu.compile(tmp_path / "first.onnx", tmp_path / "second")
    graphs = [read_graph(compiled.directory) for compiled in (first, second)]
    sizes = [sum(tensor.data.nbytes for tensor in graph.tensors.values()) for graph in graphs]
    assert sizes[1] <= 1.1 * sizes[0], "integers stay integers"
    zeros = [sum(tensor.encoding == "block" for tensor in graph.tensors.values()) > 0 for graph in graphs]
    assert zeros == [True, True]
    answers = [fastcpu.Session(compiled).run(batches[0]) for compiled in (first, second)]
    for name, array in answers[0].items():
        if scheme == "dynamic":
            np.testing.assert_allclose(answers[1][name], array, atol=0.05 * np.abs(array).max())
        assert _cosine(answers[1][name], array, batches[0]["attention_mask"]) > 0.999, name


# ---- files that are not as expected ----


def _product(**changes: Any) -> onnx.ModelProto:
    """A table of words, its rows quantized with one scale, a product of integers and what makes it real."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "table": rng.normal(size=(20, 8)).astype(np.float32),
        "x_scale": np.float32(0.03),
        "x_zero": np.uint8(120),
        "zero_of_product": np.uint8(120),
        "weight": rng.integers(-127, 128, (8, 4)).astype(np.int8),
        "weight_zero": np.int8(0),
        "bias": rng.integers(-500, 500, 4).astype(np.int32),
        "factor": (0.01 * rng.random(4) + 0.001).astype(np.float32),
    } | changes
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], "rows"),
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["codes"], "quantize"),
        helper.make_node("MatMulInteger", ["codes", "weight", "zero_of_product", "weight_zero"], ["sums"], "product"),
        helper.make_node("Add", ["sums", "bias"], ["biased"], "bias"),
        helper.make_node("Cast", ["biased"], ["real"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "factor"], ["y"], "scale"),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 4])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        ({}, "u8"),
        ({"x_zero": np.int8(-8), "zero_of_product": np.int8(-8)}, "u8"),
        ({"weight_zero": np.int8(3)}, "f32"),
        ({"weight": np.arange(32, dtype=np.uint8).reshape(8, 4) * 8, "weight_zero": np.uint8(128)}, "f32"),
        ({"weight": np.arange(32, dtype=np.uint8).reshape(8, 4) * 4 + 3, "weight_zero": np.uint8(128)}, "u8"),
        ({"factor": np.float32(0.004)}, "u8"),
    ],
)
def test_static_products(changes: dict[str, Any], dtype: str, rng: np.random.Generator) -> None:
    proto = _product(**changes)
    graph = onnx_import.import_proto(proto, "product")
    (linear,) = _linears(graph)
    assert graph.values[linear.inputs[0]].dtype == dtype
    assert ("bias_s32" in linear.tensors) == (dtype == "u8")
    feeds = {"ids": rng.integers(0, 20, (3, 5))}
    expected = tiny.run_onnx(proto, feeds)["y"]
    np.testing.assert_allclose(executor.run(graph, feeds)["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "node", "message"),
    [
        ({"zero_of_product": np.uint8(121)}, "product", "not u8 with the zero point that it was quantized with"),
        ({"weight": np.ones((9, 4), np.int8)}, "product", "the weight takes 9 channels, its input has 8"),
        ({"weight": np.ones((8, 4), np.int32)}, "product", "not a constant matrix of int8 or uint8"),
        ({"weight_zero": np.zeros(3, np.int8)}, "product", "the zero points of the weight"),
        ({"bias": np.ones(4, np.float32)}, "bias", "not an integer"),
        ({"factor": np.ones(3, np.float32)}, "scale", "one constant number per output channel"),
    ],
)
def test_products_that_are_refused(changes: dict[str, Any], node: str, message: str) -> None:
    with pytest.raises(UnsupportedOpError, match=message) as info:
        onnx_import.import_proto(_product(**changes), "product")
    assert info.value.node == node
