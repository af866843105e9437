"""ONNX files -> Graph: the forms in which patterns are written, and what is refused."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import fastcpu
from fastcpu import frontend
from fastcpu.errors import FileFormatError, GraphError, InputError, UnsupportedOpError
from fastcpu.export import write_model
from fastcpu.frontend import onnx_import, patterns
from fastcpu.graph.ir import Graph
from fastcpu.graph.trace import Trace
from tests.frontend import tiny
from tests.frontend.encoder import CHANNELS, Encoder
from tests.reference import executor

NAMES = ("tokens", "keep")  # not the names of transformers: an .onnx file keeps its own


def _proto(opset: int = 17, **forms: str) -> onnx.ModelProto:
    outputs = ("start", "end") if forms.get("output") == "select" else ("answer",)
    return tiny.export(Encoder(**forms), NAMES, outputs, opset)


def _feeds(rng: np.random.Generator) -> dict[str, Any]:
    feeds = tiny.feeds(rng)
    return {"tokens": feeds["input_ids"] % 50, "keep": feeds["attention_mask"]}


def _check(proto: onnx.ModelProto, rng: np.random.Generator) -> Graph:
    graph = onnx_import.import_proto(proto, "encoder")
    feeds = _feeds(rng)
    tiny.assert_same(executor.run(graph, feeds), tiny.run_onnx(proto, feeds), feeds["keep"])
    assert [i.name for i in graph.inputs] == list(NAMES)
    return graph


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
@pytest.mark.parametrize(
    "forms",
    [
        {"mask": "additive"},
        {"mask": "finfo"},
        {"mask": "fill"},
        {"mask": "square"},
        {"mask": "bias"},
        {"mask": "bias_alone"},
        {"mask": "bias_and_mask"},
        {"padding": "zeroed"},
        {"scale": "division"},
        {"scale": "query"},
        {"scale": "split"},
        {"gelu": "op"},
        {"gelu": "half_first"},
        {"gelu": "half_erf"},
        {"gelu": "tanh_approximation"},
        {"gelu": "new"},
        {"gelu": "fast"},
        {"gelu": "relu"},
        {"qkv": "merged"},
        {"norm": "plain"},
        {"norm": "rsqrt"},
        {"positions": "offset"},
        {"positions": "expanded"},
        {"types": "constant"},
        {"output": "select"},
        {"output": "first"},
        {"output": "mean"},
        {"output": "mean_expanded"},
    ],
    ids=lambda forms: "-".join(next(iter(forms.items()))),
)
def test_forms(forms: dict[str, str], opset: int, rng: np.random.Generator) -> None:
    _check(_proto(opset, **forms), rng)


def test_positions_that_start_at_an_offset(tmp_path: Path, rng: np.random.Generator) -> None:
    proto = _proto(positions="offset")
    path = tmp_path / "offset.onnx"
    onnx.save(proto, path)
    graph = frontend.load(path)
    assert graph.tensors["positions.weight"].data.shape == (22, CHANNELS), "the rows from 2 on of a table of 24"
    session = fastcpu.Session(write_model(graph, tmp_path / "model"))
    longest = {"tokens": rng.integers(0, 50, (2, 22)), "keep": np.ones((2, 22), np.int64)}
    for feeds in (_feeds(rng), longest):
        tiny.assert_same(session.run(feeds), tiny.run_onnx(proto, feeds), feeds["keep"])
    with pytest.raises(InputError, match="the model has 22 positions"):
        session.run({"tokens": [rng.integers(0, 50, 23)]})


@pytest.mark.parametrize(("first", "reason"), [(-1, "row -1 of a table of 24"), (24, "row 24 of a table of 24")])
def test_positions_outside_of_the_table(first: int, reason: str) -> None:
    proto = _proto(positions="offset")
    name = next(item.name for item in proto.graph.initializer if item.name == "positions.weight")
    gather = next(node for node in proto.graph.node if node.op_type == "Gather" and node.input[0] == name)
    add = next(node for node in proto.graph.node if gather.input[1] in node.output)
    offset = next(n for n in proto.graph.node if n.op_type == "Constant" and n.output[0] in add.input)
    offset.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(first, np.int64)))
    with pytest.raises(UnsupportedOpError, match=reason):
        onnx_import.import_proto(proto, "encoder")


def test_emitted_ops() -> None:
    merged = onnx_import.import_proto(_proto(qkv="merged"), "merged")
    attention = next(node for node in merged.nodes if node.op == "attention")
    assert len(set(attention.inputs)) == 1
    assert [attention.attrs[f"{role}_offset"] for role in "qkv"] == [0, CHANNELS, 2 * CHANNELS]
    pooled = onnx_import.import_proto(_proto(output="mean"), "pooled")
    assert [node.op for node in pooled.nodes[-3:]] == ["pool", "l2norm", "repad"]
    relu = onnx_import.import_proto(_proto(gelu="relu"), "relu")
    assert [n.attrs["activation"] for n in relu.nodes if n.op == "linear"][-2:] == ["relu", "none"]


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("causal", "it hides keys that attention_mask does not"),
        ("bias_by_key", "depends on more than their distance"),
        ("twice", "a second mask or position bias"),
        ("weak", "it does not hide the keys"),
        ("ids", "it hides keys that attention_mask does not"),
        ("none", "does not reach these scores"),
    ],
)
def test_refused_masks(form: str, reason: str) -> None:
    proto = _proto(mask=form)
    if form == "none":
        # The exporter drops an input that nothing reads.
        proto.graph.input.append(helper.make_tensor_value_info("keep", TensorProto.INT64, ["batch", "sequence"]))
    with pytest.raises(GraphError, match=reason):
        onnx_import.import_proto(proto, "encoder")


def test_model_without_mask_attends_to_all(rng: np.random.Generator) -> None:
    proto = _proto(mask="none")
    graph = onnx_import.import_proto(proto, "encoder")
    assert [(i.name, i.optional) for i in graph.inputs] == [("tokens", False), ("attention_mask", True)]
    feeds = {"tokens": rng.integers(0, 50, (3, 6))}
    tiny.assert_same(executor.run(graph, feeds), tiny.run_onnx(proto, feeds), np.ones((3, 6)))


@pytest.mark.parametrize(
    ("forms", "op", "reason"),
    [
        ({"gelu": "bent"}, "Tanh", "neither an activation nor that of a GELU"),
        ({"gelu": "sigmoid"}, "Sigmoid", "no pattern takes it on Polynomial"),
        ({"positions": "reversed"}, "Gather", "not consecutive"),
        ({"output": "mean_of_all"}, "Div", "not divided by their number"),
    ],
)
def test_unsupported_ops_are_named(forms: dict[str, str], op: str, reason: str) -> None:
    with pytest.raises(UnsupportedOpError, match=reason) as info:
        onnx_import.import_proto(_proto(**forms), "encoder")
    assert info.value.op in op.split("|")
    assert info.value.opset == 17
    assert info.value.node


def test_unknown_domain_is_named() -> None:
    proto = _proto()
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    norm = next(node for node in proto.graph.node if node.op_type == "LayerNormalization")
    norm.op_type, norm.domain = "SkipLayerNormalization", "com.microsoft"
    with pytest.raises(UnsupportedOpError, match=r"com\.microsoft:SkipLayerNormalization") as info:
        onnx_import.import_proto(proto, "encoder")
    assert info.value.node == norm.name


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_bad_weights_are_named(number: float) -> None:
    proto = _proto()
    weight = next(item for item in proto.graph.initializer if item.name == "words.weight")
    array = numpy_helper.to_array(weight).copy()
    array[7, 3] = number
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    with pytest.raises(GraphError, match=r"'words\.weight' contains NaN or infinite"):
        onnx_import.import_proto(proto, "encoder")


@pytest.mark.parametrize("opset", [12, 24])
def test_opsets_out_of_range(opset: int) -> None:
    proto = _proto()
    proto.opset_import[0].version = opset
    with pytest.raises(GraphError, match=rf"opset {opset} .* 13 to 23"):
        onnx_import.import_proto(proto, "encoder")


def test_inputs_that_cannot_be_told_apart() -> None:
    proto = _proto()
    proto.graph.input.append(helper.make_tensor_value_info("other", TensorProto.INT64, ["batch", "sequence"]))
    with pytest.raises(GraphError, match="keep, other all look like the attention mask"):
        onnx_import.import_proto(proto, "encoder")
    proto.graph.input[2].name = "token_type_ids"
    graph = onnx_import.import_proto(proto, "encoder")
    assert [(i.name, i.role, i.optional) for i in graph.inputs][2] == ("token_type_ids", "types", True)


def test_output_that_is_no_activation() -> None:
    proto = _proto()
    proto.graph.output.append(helper.make_tensor_value_info("copy", TensorProto.INT64, ["batch", "sequence"]))
    proto.graph.node.append(helper.make_node("Identity", ["tokens"], ["copy"]))
    with pytest.raises(GraphError, match=r"output '(copy|tokens)' is not an activation"):
        onnx_import.import_proto(proto, "encoder")


def test_product_that_is_used_without_its_bias() -> None:
    proto = _proto()
    add = next(node for node in proto.graph.node if node.name == "/fc2/Add")
    product = next(name for name in add.input if "MatMul" in name)
    residual = next(node for node in proto.graph.node if node.op_type == "Add" and add.output[0] in node.input)
    for i, name in enumerate(residual.input):
        if name != add.output[0]:
            residual.input[i] = product
    with pytest.raises(GraphError, match=r"fc2\.product"):
        onnx_import.import_proto(proto, "encoder")


def test_files(tmp_path: Path, rng: np.random.Generator) -> None:
    proto = _proto()
    path = tmp_path / "tiny.onnx"
    onnx.save(copy.deepcopy(proto), path, save_as_external_data=True, location="tiny.data", size_threshold=64)
    graph = frontend.load(str(path))
    assert graph.name == "tiny"
    feeds = _feeds(rng)
    tiny.assert_same(executor.run(graph, feeds), tiny.run_onnx(proto, feeds), feeds["keep"])
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x99 not a model")
    with pytest.raises(FileFormatError, match=r"broken\.onnx: not a readable ONNX file"):
        frontend.load(tmp_path / "broken.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"empty\.onnx: an empty file"):
        frontend.load(tmp_path / "empty.onnx")
    (tmp_path / "other.onnx").write_bytes(b"\x08\x07")  # a valid message of nothing but a version
    with pytest.raises(FileFormatError, match=r"other\.onnx: not an ONNX model"):
        frontend.load(tmp_path / "other.onnx")
    with pytest.raises(InputError, match="no such file"):
        frontend.load(tmp_path / "absent.onnx")


def _node(proto: onnx.ModelProto, op: str, name: str = "") -> onnx.NodeProto:
    return next(node for node in proto.graph.node if node.op_type == op and name in node.name)


def test_transpose_without_perm_reverses_the_axes(rng: np.random.Generator) -> None:
    """Key heads as [b, s, h, d] -> [d, h, s, b] -> [b, h, d, s]."""
    proto = _proto()
    scores = next(n for n in proto.graph.node if n.op_type == "MatMul" and all("Transpose" in i for i in n.input))
    second = next(n for n in proto.graph.node if n.output[0] == scores.input[1])
    (perm,) = second.attribute
    source = next((n for n in proto.graph.node if n.output[0] == second.input[0] and n.op_type == "Transpose"), None)
    if source is not None:  # two transposes in a row become two others with the same effect
        second.input[0], perm.ints[:] = source.input[0], [0, 2, 3, 1]
    reverse = helper.make_node("Transpose", [second.input[0]], ["reversed"], "reverse")
    second.input[0], perm.ints[:] = "reversed", [3, 1, 0, 2]
    proto.graph.node.insert(list(proto.graph.node).index(second), reverse)
    _check(proto, rng)


@pytest.mark.parametrize("index", [2, -3])
def test_a_channel_that_does_not_exist(index: int) -> None:
    proto = _proto(output="select")
    gather = next(n for n in proto.graph.node if n.op_type == "Gather" and n.output[0] == "start")
    proto.graph.initializer.append(numpy_helper.from_array(np.array(index), "beyond"))
    gather.input[1] = "beyond"
    with pytest.raises(UnsupportedOpError, match=f"a gather of index {index} from axis 2"):
        onnx_import.import_proto(proto, "encoder")


def test_a_split_that_does_not_fit() -> None:
    proto = _proto(qkv="merged")
    split = _node(proto, "Split")
    proto.graph.initializer.append(numpy_helper.from_array(np.array([CHANNELS, CHANNELS, 2 * CHANNELS]), "sizes"))
    split.input[1] = "sizes"
    with pytest.raises(UnsupportedOpError, match=r"a split of 48 channels into \[16, 16, 32\]"):
        onnx_import.import_proto(proto, "encoder")


def test_an_unexpected_exception_names_the_node() -> None:
    proto = _proto()
    softmax = _node(proto, "Softmax")
    softmax.attribute[0].CopyFrom(helper.make_attribute("axis", "last"))
    with pytest.raises(UnsupportedOpError, match=softmax.name) as info:
        onnx_import.import_proto(proto, "encoder")
    assert (info.value.node, info.value.op, info.value.opset) == (softmax.name, "Softmax", 17)
    assert isinstance(info.value.__cause__, TypeError)


def test_external_data_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(_proto(), path, save_as_external_data=True, location="tiny.data", size_threshold=64)
    (tmp_path / "tiny.data").unlink()
    with pytest.raises(FileFormatError, match=r"initializer '.*' cannot be read"):
        frontend.load(path)


def test_misses_of_nodes_that_another_pattern_takes_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    def miss(ctx: Any, node: Any, inputs: Any) -> None:
        ctx.miss("shy", node, "not mine")

    proto, trace, expected = _proto(), Trace(), Trace()
    onnx_import.import_proto(proto, "encoder", trace=expected)
    monkeypatch.setattr(patterns, "PATTERNS", (patterns.Pattern("shy", None, miss), *patterns.PATTERNS))
    onnx_import.import_proto(proto, "encoder", trace=trace)
    assert trace.misses == expected.misses
    _node(proto, "Softmax").op_type = "Hardmax"
    with pytest.raises(UnsupportedOpError, match="shy: not mine"):
        onnx_import.import_proto(proto, "encoder", trace=trace)


def test_misses_are_collected_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace()
    with caplog.at_level(logging.DEBUG, "fastcpu.graph"), pytest.raises(UnsupportedOpError) as info:
        onnx_import.import_proto(_proto(mask="causal"), "encoder", trace=trace)
    miss = trace.misses[-1]
    assert miss.pattern == "attention"
    assert miss.node == info.value.node
    assert miss.reason in str(info.value)
    assert str(miss) in caplog.messages
