"""QDQ files -> Graph: the quantization points of the file, no more and no fewer, and the answers of ONNX Runtime."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import fastcpu
from fastcpu import frontend
from fastcpu.errors import UnsupportedOpError
from fastcpu.export import write_model
from fastcpu.frontend import onnx_import, torch_export
from fastcpu.graph.ir import Graph
from fastcpu.graph.rules import GRID_ROLES
from fastcpu.graph.trace import Trace
from tests.frontend import tiny
from tests.reference import executor


def _quantized(architecture: str, tmp_path: Path, **options: Any) -> onnx.ModelProto:
    """The tiny model, quantized by ONNX Runtime's own tool, calibrated on random batches."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, names: set[str]) -> None:
            rng = np.random.default_rng(5)
            batches = [tiny.feeds(rng, holes=False) for _ in range(8)]
            self.batches = iter([{k: v for k, v in feeds.items() if k in names} for feeds in batches])

        def get_next(self) -> Any:
            return next(self.batches, None)

    proto = torch_export.to_onnx(tiny.model(architecture))
    source, target = tmp_path / "f32.onnx", tmp_path / "qdq.onnx"
    onnx.save(proto, source)
    settings = {
        "op_types_to_quantize": ["MatMul", "Gemm"],
        "activation_type": QuantType.QInt8,
        "weight_type": QuantType.QInt8,
        "extra_options": {"WeightSymmetric": True, "ActivationSymmetric": False},
    }
    reader = Reader({i.name for i in proto.graph.input})
    quantize_static(source, target, reader, QuantFormat.QDQ, **(settings | options))
    return onnx.load(target)


def _points(graph: Graph) -> set[Any]:
    """Every quantization point of a graph: (what is quantized, scale, zero point)."""
    points: set[Any] = set()
    for node in graph.nodes:
        if node.op == "fake_quant":
            points.add((node.inputs[0], node.attrs["scale"], node.attrs["zero_point"]))
        for role in GRID_ROLES:
            if f"{role}_scale" in node.attrs:
                points.add((f"{node.name}.{role}", node.attrs[f"{role}_scale"], node.attrs[f"{role}_zero_point"]))
        for name in node.outputs:
            quantization = graph.values[name].quantization
            if quantization is not None:
                source = node.inputs[0] if node.op == "quantize" else node.outputs[0]
                points.add((source, quantization.scale, quantization.zero_point))
    return points


def _steps(actual: Any, expected: Any) -> tuple[float, float]:
    """Mean and largest difference as a share of the range of the answer."""
    difference = np.abs(actual - expected) / np.ptp(expected)
    return float(difference.mean()), float(difference.max())


@pytest.mark.parametrize(
    ("architecture", "unsigned", "per_channel"),
    [
        ("BertModel", False, False),
        ("BertForSequenceClassification", True, False),
        ("DistilBertForTokenClassification", False, True),
        ("DistilBertForQuestionAnswering", True, True),
        ("MPNetForTokenClassification", False, True),
        ("RobertaForSequenceClassification", True, False),
    ],
)
def test_onnxruntime_quantization(
    architecture: str, unsigned: bool, per_channel: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    from onnxruntime.quantization import QuantType

    activation = QuantType.QUInt8 if unsigned else QuantType.QInt8
    proto = _quantized(architecture, tmp_path, activation_type=activation, per_channel=per_channel)
    trace = Trace()
    graph = onnx_import.import_proto(proto, "qdq", trace=trace)
    linears = [node for node in graph.nodes if node.op == "linear"]
    assert {graph.values[node.inputs[0]].dtype for node in linears} == {"u8"}
    assert {node.op for node in graph.nodes if node.op.startswith("attention")} == {"attention_qdq"}
    feeds = tiny.feeds(rng)
    expected = tiny.run_onnx(proto, feeds)
    for name, array in executor.run(graph, feeds).items():
        wanted = expected[name]
        if wanted.shape[:2] == feeds["attention_mask"].shape:
            real = feeds["attention_mask"].astype(bool)
            array, wanted = array[real], wanted[real]
        mean, largest = _steps(array, wanted)
        # A value that falls on a tie rounds either way; what follows then differs by steps of the grids.
        assert mean < 0.01, name
        assert largest < 0.1, name


def test_runtime_gives_the_bits_of_the_reference(tmp_path: Path, rng: np.random.Generator) -> None:
    graph = onnx_import.import_proto(_quantized("DistilBertForTokenClassification", tmp_path), "qdq")
    session = fastcpu.Session(write_model(graph, tmp_path / "model"), threads=2)
    feeds = tiny.feeds(rng)
    del feeds["token_type_ids"]
    expected = executor.run(graph, feeds)
    for name, array in session.run(feeds).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


def test_integer_bias_stays_an_integer(tmp_path: Path) -> None:
    graph = onnx_import.import_proto(_quantized("DistilBertForSequenceClassification", tmp_path), "qdq")
    with_bias = [node.name for node in graph.nodes if "bias_s32" in node.tensors]
    assert with_bias == ["model.pre_classifier", "model.classifier"]


def test_weights_that_are_not_symmetric_are_dequantized(tmp_path: Path, rng: np.random.Generator) -> None:
    proto = _quantized("DistilBertModel", tmp_path, extra_options={"WeightSymmetric": False})
    trace = Trace()
    graph = onnx_import.import_proto(proto, "qdq", trace=trace)
    linears = [node for node in graph.nodes if node.op == "linear"]
    assert {graph.values[node.inputs[0]].dtype for node in linears} == {"f32"}
    assert sum("not symmetric" in miss.reason for miss in trace.misses) == len(linears)
    feeds = tiny.feeds(rng)
    real = feeds["attention_mask"].astype(bool)
    answer, expected = executor.run(graph, feeds), tiny.run_onnx(proto, feeds)
    mean, _ = _steps(answer["last_hidden_state"][real], expected["last_hidden_state"][real])
    assert mean < 0.01


@pytest.mark.parametrize(
    ("tensor", "array", "message"),
    [
        ("zero_point", np.array(3, np.int8), "are not those of a QuantizeLinear before it"),
        ("zero_point", np.array(0, np.int16), "an int8 or uint8 zero point"),
        ("scale", np.array([0.1, 0.2], np.float32), "needs one constant scale"),
    ],
)
def test_refused_points(tensor: str, array: Any, message: str, tmp_path: Path) -> None:
    proto = copy.deepcopy(_quantized("DistilBertModel", tmp_path))
    norm = next(n for n in proto.graph.node if n.op_type == "LayerNormalization")
    quantize = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear" and norm.output[0] in n.input)
    dequantize = next(n for n in proto.graph.node if quantize.output[0] in n.input)
    proto.graph.initializer.append(numpy_helper.from_array(array, "changed"))
    index = 2 if tensor == "zero_point" else 1
    dequantize.input[index] = "changed"
    if "before it" not in message:
        quantize.input[index] = "changed"
    with pytest.raises(UnsupportedOpError, match=message):
        onnx_import.import_proto(proto, "qdq")


def _points_proto(tmp_path: Path) -> tuple[onnx.ModelProto, onnx.NodeProto, onnx.NodeProto]:
    """A signed model of opset 21, and the first QuantizeLinear behind a LayerNorm with its DequantizeLinear."""
    proto = _quantized("DistilBertModel", tmp_path)
    proto.opset_import[0].version = 21
    norm = next(n for n in proto.graph.node if n.op_type == "LayerNormalization")
    quantize = next(n for n in proto.graph.node if n.op_type == "QuantizeLinear" and norm.output[0] in n.input)
    return proto, quantize, next(n for n in proto.graph.node if quantize.output[0] in n.input)


def test_output_dtype_instead_of_a_zero_point(tmp_path: Path) -> None:
    proto, quantize, dequantize = _points_proto(tmp_path)
    zero = numpy_helper.from_array(np.array(0, np.int8), "zero")
    proto.graph.initializer.append(zero)
    quantize.input[2] = dequantize.input[2] = "zero"
    expected = _points(onnx_import.import_proto(proto, "qdq"))
    assert 128 in {zero_point for _, _, zero_point in expected}
    del quantize.input[2], dequantize.input[2]
    quantize.attribute.append(onnx.helper.make_attribute("output_dtype", TensorProto.INT8))
    assert _points(onnx_import.import_proto(proto, "qdq")) == expected
    quantize.attribute[-1].i = TensorProto.INT16
    with pytest.raises(UnsupportedOpError, match="an int8 or uint8 zero point"):
        onnx_import.import_proto(proto, "qdq")


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.FLOAT8E4M3FN])
def test_output_dtype_that_is_not_that_of_the_zero_point(dtype: int, tmp_path: Path) -> None:
    proto, quantize, _ = _points_proto(tmp_path)
    quantize.attribute.append(onnx.helper.make_attribute("output_dtype", dtype))
    with pytest.raises(UnsupportedOpError, match="an int8 or uint8 zero point"):
        onnx_import.import_proto(proto, "qdq")


def test_a_zero_point_per_channel(tmp_path: Path) -> None:
    proto, quantize, dequantize = _points_proto(tmp_path)
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.int8), "zeros"))
    quantize.input[2] = dequantize.input[2] = "zeros"
    with pytest.raises(UnsupportedOpError, match="an int8 or uint8 zero point"):
        onnx_import.import_proto(proto, "qdq")


@pytest.mark.parametrize(
    ("data", "scale", "zero_point", "message"),
    [
        (np.ones(32, np.int8), np.ones(32, np.float32), None, "32 scales do not fit axis 1 of a constant of shape"),
        (np.ones((32, 8), np.int8), np.ones(9, np.float32), None, "9 scales do not fit axis 1"),
        (np.ones((32, 8), np.int8), np.ones(8, np.float32), np.zeros(3, np.int8), "3 zero points beside 8 scales"),
        (np.ones((32, 8), np.float16), np.float32(1), None, "constants of type float16"),
    ],
)
def test_malformed_dequantized_constants(data: Any, scale: Any, zero_point: Any, message: str, tmp_path: Path) -> None:
    proto = torch_export.to_onnx(tiny.model("DistilBertModel"))
    matmul = next(node for node in proto.graph.node if node.op_type == "MatMul")
    arrays = {"data": data, "scale": np.asarray(scale)} | ({} if zero_point is None else {"zero": zero_point})
    proto.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    matmul.input[1] = "weight"
    proto.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", list(arrays), ["weight"], "dequantize"))
    with pytest.raises(UnsupportedOpError, match=message) as info:
        onnx_import.import_proto(proto, "qdq")
    assert (info.value.node, info.value.op) == ("dequantize", "DequantizeLinear")


# ---- a published model ----


@pytest.fixture(scope="module")
def tagger(quire_dir: Path) -> Graph:
    return frontend.load(quire_dir / "tagger.onnx")


def test_tagger_keeps_the_points_of_its_file(tagger: Graph, quire_dir: Path) -> None:
    proto = onnx.load(quire_dir / "tagger.onnx")
    quantizes = sum(node.op_type == "QuantizeLinear" for node in proto.graph.node)
    # Rows of two tables that are on their grid already, and per layer the same grid twice around a Reshape.
    without_effect = 2 + 6
    assert len(_points(tagger)) == quantizes - without_effect
    layer = ["linear"] * 3 + ["fake_quant"] * 3 + ["attention_qdq", "quantize", "linear", "fake_quant"]
    layer += ["fake_quant", "layernorm", "linear", "fake_quant", "pointwise", "quantize", "linear"]
    layer += ["fake_quant", "fake_quant", "layernorm"]
    ops = [node.op for node in tagger.nodes]
    assert ops == ["unpad", "embedding", "layernorm", *layer * 6, "linear", "fake_quant", "repad"]
    assert {tagger.values[node.inputs[0]].dtype for node in tagger.nodes if node.op == "linear"} == {"u8"}


def test_tagger_answers_like_onnxruntime(tagger: Graph, quire_dir: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(quire_dir / "tokenizer.json"))
    texts = ["He go to the school every days .", "I has an apple", "Their is many people who doesn't knows it ."]
    rows = [tokenizer.encode(text).ids for text in texts]
    mask = np.arange(max(map(len, rows))) < np.array([len(row) for row in rows])[:, None]
    ids = np.zeros(mask.shape, np.int64)
    ids[mask] = np.concatenate(rows)
    feeds = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    expected = tiny.run_onnx(onnx.load(quire_dir / "tagger.onnx"), feeds)["logits"][mask]
    answer = executor.run(tagger, feeds, exact=False)["logits"][mask]
    assert (answer.argmax(axis=-1) == expected.argmax(axis=-1)).mean() >= 0.97
    assert _steps(answer, expected)[0] < 0.01
