"""What the exporters of torch write of the models of transformers: inputs, attentions, exporters and opsets."""

from __future__ import annotations

import copy
import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper
from torch.export import Dim

from fastcpu.errors import GraphError, UnsupportedOpError
from fastcpu.frontend import onnx_import
from fastcpu.frontend.evaluate import Evaluator
from tests.frontend import tiny
from tests.reference import executor

INPUTS = ("input_ids", "attention_mask")
EXPORTERS = {"legacy": 17, "dynamo": 18}


class _Exported(torch.nn.Module):
    def __init__(self, model: Any, output: str) -> None:
        super().__init__()
        self.model, self.output = model, output

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.model(**dict(zip(INPUTS, tensors, strict=True)), return_dict=True)[self.output]
        return answer


@cache
def _export(
    architecture: str, exporter: str, attention: str, opset: int = 0, shared: bool = False, types: str = ""
) -> onnx.ModelProto:
    """The model without the input of token types.

    ``shared`` gives the exporter one example tensor for both inputs, ``types`` sets the buffer of token types.
    """
    opset = opset or EXPORTERS[exporter]
    config = copy.deepcopy(tiny.model(architecture).config)
    config.max_position_embeddings = 100
    torch.manual_seed(0)
    model = type(tiny.model(architecture))(config).eval()
    model.set_attn_implementation(attention)
    if types:
        model.embeddings.token_type_ids[:] = torch.tensor([1] * 100 if types == "ones" else [0, 1] * 50)
    output = "last_hidden_state" if architecture.endswith("Model") else "logits"
    module = _Exported(model, output).eval()
    if exporter == "legacy":
        return tiny.export(module, INPUTS, (output,), opset)
    example = torch.ones((2, 8), dtype=torch.int64)
    sizes = {0: Dim("batch"), 1: Dim("sequence", max=100)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example, example if shared else example.clone()),
            dynamo=True,
            opset_version=opset,
            input_names=list(INPUTS),
            output_names=[output],
            dynamic_shapes={"tensors": (sizes, sizes)},
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@pytest.mark.parametrize(
    ("architecture", "exporter", "attention"),
    [
        ("BertModel", "legacy", "eager"),
        ("BertModel", "dynamo", "sdpa"),
        ("BertForSequenceClassification", "legacy", "sdpa"),
        ("DistilBertModel", "legacy", "sdpa"),
        ("DistilBertForTokenClassification", "legacy", "eager"),
        ("DistilBertForTokenClassification", "dynamo", "sdpa"),
    ],
)
def test_models_without_token_types(architecture: str, exporter: str, attention: str, rng: np.random.Generator) -> None:
    proto = _export(architecture, exporter, attention)
    graph = onnx_import.import_proto(proto, architecture)
    assert [(i.name, i.role) for i in graph.inputs] == [("input_ids", "ids"), ("attention_mask", "mask")]
    for holes in (False, True):
        feeds = tiny.feeds(rng, holes=holes)
        tiny.assert_same(executor.run(graph, feeds), tiny.run_onnx(proto, feeds), feeds["attention_mask"])


@pytest.mark.parametrize(
    ("architecture", "exporter", "opset", "attention"),
    [
        ("RobertaModel", "legacy", 13, "eager"),
        ("XLMRobertaForTokenClassification", "legacy", 14, "sdpa"),
        ("MPNetForTokenClassification", "legacy", 16, "eager"),
        ("ElectraForSequenceClassification", "legacy", 20, "sdpa"),
        ("RobertaModel", "dynamo", 18, "sdpa"),
        ("MPNetModel", "dynamo", 20, "eager"),
        ("ElectraForMaskedLM", "dynamo", 21, "sdpa"),
        ("BertForSequenceClassification", "dynamo", 22, "eager"),
        ("RobertaForSequenceClassification", "dynamo", 23, "sdpa"),
        ("DistilBertModel", "dynamo", 23, "eager"),
    ],
)
def test_opsets(architecture: str, exporter: str, opset: int, attention: str, rng: np.random.Generator) -> None:
    proto = _export(architecture, exporter, attention, opset)
    assert [item.version for item in proto.opset_import if item.domain == ""] == [opset]
    graph = onnx_import.import_proto(proto, architecture)
    feeds = tiny.feeds(rng)
    tiny.assert_same(executor.run(graph, feeds), tiny.run_onnx(proto, feeds), feeds["attention_mask"])


def _attention(rank: int = 3, mask: str = "bool", kv_heads: int = 2, **attributes: Any) -> onnx.ModelProto:
    """A table of words and the operator Attention of opset 23, on channels (rank 3) or on heads (rank 4)."""
    random = np.random.default_rng(0)
    constants: dict[str, Any] = {
        "table": random.normal(size=(30, 8)),
        "axes": np.array([1, 2]),
        "other_axes": np.array([1, 3]),
        "nothing": np.array(0),
        "split": np.array([0, 0, 2, 4]),
        "merge": np.array([0, 0, 8]),
        "one": np.float32(1),
        "low": np.float32(-1e4),
    } | {f"weight.{role}": random.normal(size=(8, 8 if role == "q" else 4 * kv_heads)) for role in "qkv"}
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["x"], "words")]
    for role in "qkv":
        nodes.append(helper.make_node("MatMul", ["x", f"weight.{role}"], [role], f"{role}/MatMul"))
        if rank == 4:
            nodes.append(helper.make_node("Reshape", [role, "split"], [f"{role}.split"]))
            nodes.append(helper.make_node("Transpose", [f"{role}.split"], [f"{role}.heads"], perm=[0, 2, 1, 3]))
    # ONNX Runtime takes no mask that leaves the queries out.
    nodes.append(helper.make_node("Unsqueeze", ["attention_mask", "axes"], ["keys"]))
    nodes.append(helper.make_node("Unsqueeze", ["attention_mask", "other_axes"], ["queries"]))
    nodes.append(helper.make_node("Mul", ["queries", "nothing"], ["zeros"]))
    nodes.append(helper.make_node("Add", ["keys", "zeros"], ["wide"]))
    nodes.append(helper.make_node("Cast", ["wide"], ["bool"], to=onnx.TensorProto.BOOL))
    nodes.append(helper.make_node("Cast", ["wide"], ["real"], to=onnx.TensorProto.FLOAT))
    nodes.append(helper.make_node("Sub", ["one", "real"], ["inverted"]))
    nodes.append(helper.make_node("Mul", ["inverted", "low"], ["float"]))
    sources = [f"{role}.heads" if rank == 4 else role for role in "qkv"]
    if rank == 3:
        attributes = {"q_num_heads": 2, "kv_num_heads": kv_heads} | attributes
    outputs = ["y" if rank == 3 else "context"]
    nodes.append(helper.make_node("Attention", [*sources, mask], outputs, "attention", **attributes))
    if rank == 4:
        nodes.append(helper.make_node("Transpose", ["context"], ["tokens"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", ["tokens", "merge"], ["y"]))
    ints = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["batch", "sequence"]) for name in INPUTS]
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", "sequence", 8])
    arrays = [
        onnx.numpy_helper.from_array(np.asarray(v, np.float32 if np.asarray(v).dtype.kind == "f" else np.int64), k)
        for k, v in constants.items()
    ]
    graph = helper.make_graph(nodes, "attention", ints, [out], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("mask", ["bool", "float"])
@pytest.mark.parametrize("rank", [3, 4])
def test_the_operator_attention(rank: int, mask: str, scale: float | None, rng: np.random.Generator) -> None:
    proto = _attention(rank, mask, **({} if scale is None else {"scale": scale}))
    feeds = tiny.feeds(rng)
    feeds["input_ids"] %= 30
    graph = onnx_import.import_proto(proto, "attention")
    tiny.assert_same(executor.run(graph, feeds), tiny.run_onnx(proto, feeds), feeds["attention_mask"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"softcap": 2.0}, "its attribute softcap is not supported"),
        ({"is_causal": 1}, "its attribute is_causal is not supported"),
        ({"kv_heads": 1}, "2 heads of queries, 1 of keys, 1 of values"),
        ({"q_num_heads": 3}, "8 channels are not split into 3 heads"),
        ({"mask": ""}, "'attention_mask' does not reach these scores"),
    ],
)
def test_attention_that_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedOpError, match=message) as info:
        onnx_import.import_proto(_attention(**changes), "attention")
    assert info.value.op == "Attention"


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_token_types_are_those_of_the_buffer(exporter: str, rng: np.random.Generator) -> None:
    """All ones are another row of the table than the first; types that differ by position are no row of it."""
    proto = _export("BertModel", exporter, "eager", types="ones")
    feeds = tiny.feeds(rng)
    graph = onnx_import.import_proto(proto, "bert")
    tiny.assert_same(executor.run(graph, feeds), tiny.run_onnx(proto, feeds), feeds["attention_mask"])
    with pytest.raises(GraphError, match="positions are not consecutive"):
        onnx_import.import_proto(_export("BertModel", exporter, "eager", types="mixed"), "bert")


def test_one_example_for_two_inputs() -> None:
    """The exporter then reads both from one input, which is therefore both ids and mask."""
    with pytest.raises(UnsupportedOpError, match=r"a cast to BOOL: '.*' indexes an embedding .*one tensor for two"):
        onnx_import.import_proto(_export("DistilBertModel", "dynamo", "eager", shared=True), "distilbert")


@pytest.mark.parametrize(
    ("data", "indices", "axis"),
    [
        ((1, 512), (1, 5), 1),
        ((4, 512), (4, 7), 1),
        ((4, 90), (2, 7), -1),
        ((70, 3), (5, 3), 0),
        ((2, 3, 80), (2, 2, 9), 2),
    ],
)
def test_gather_elements(data: tuple[int, ...], indices: tuple[int, ...], axis: int, rng: np.random.Generator) -> None:
    feeds = {
        "data": rng.normal(size=data).astype(np.float32),
        "indices": rng.integers(-data[axis], data[axis], indices),
    }
    node = helper.make_node("GatherElements", list(feeds), ["out"], axis=axis)
    values = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()
    ]
    out = helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "gather", values, [out])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (found,) = Evaluator(ir.from_proto(proto).graph.node(0), 17)(list(feeds.values()))
    np.testing.assert_array_equal(found, tiny.run_onnx(proto, feeds)["out"])


def test_gather_elements_beyond_the_axis() -> None:
    node = ir.Node("", "GatherElements", [ir.Value(name="data"), ir.Value(name="indices")], name="pick", num_outputs=1)
    node.outputs[0].name = "out"
    with pytest.raises(GraphError, match=r"node 'pick' \(GatherElements\) cannot be evaluated: .*out of bounds"):
        Evaluator(node, 17)([np.zeros((3, 3)), np.full((3, 3), 3)])
