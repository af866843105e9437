"""Graph -> ONNX opset 17, in one of three forms, for whoever wants to run the model elsewhere.

fp32           dequantized weights (zeros stay zeros) and plain f32 ops.
qdq            every static quantization point of the graph as QuantizeLinear and DequantizeLinear: u8 activations and
               s8 weights with one scale per output channel.
matmulinteger  QuantizeLinear, MatMulInteger, Add, Cast, Mul for linears and f32 for the rest: what DeepSparse runs
               fastest. Takes dynamic quantization too.

Batch and sequence are dynamic. On real tokens the answers are those of the runtime up to rounding; what stands on
padding differs, since the runtime never computes it. In int8 models softmax is plain f32, as other engines expect it,
so that a few codes of each layer round the other way; a deep model can turn these into differences as large as those
that quantization itself made.
"""

from __future__ import annotations

import os
from pathlib import Path

import onnx
from onnx import helper

from fastcpu.errors import GraphError, InputError, OutputError
from fastcpu.export.forms import FORMS, Form
from fastcpu.export.onnx_emit import Emitter
from fastcpu.export.onnx_ops import OPS
from fastcpu.export.onnx_split import split_qkv
from fastcpu.export.reader import GRAPH_FILE, read_graph
from fastcpu.files import replacing_file
from fastcpu.graph.ir import Graph

OPSET = 17
IR_VERSION = 8
"""The oldest that has opset 17, so that older readers take the file."""


def to_onnx(graph: Graph, form: Form = "fp32") -> onnx.ModelProto:
    """The ONNX model of a graph, with the inputs and outputs of the graph under their names."""
    if form not in FORMS:
        raise InputError(f"unknown form '{form}'; there are {', '.join(FORMS)}")
    if form != "fp32" and not has_quantization_points(graph):
        raise InputError(f"'{graph.name}' is not quantized: only form fp32 can hold it")
    if form == "qdq" and any(value.dynamic_scale is not None for value in graph.values.values()):
        raise InputError(
            f"'{graph.name}' is quantized dynamically, one scale per token, which form qdq cannot express; "
            "use form matmulinteger or fp32"
        )
    graph = split_qkv(graph)
    emitter = Emitter(graph, form)
    for node in graph.nodes:
        if node.op not in OPS:
            raise GraphError(f"node '{node.name}': op {node.op} has no ONNX form")
        OPS[node.op](emitter, node)
    for output in graph.outputs:
        emitter.op("Identity", [emitter.real(output.value)], output.name, output.name)
    inputs = [
        helper.make_tensor_value_info(item.name, onnx.TensorProto.INT64, ["batch", "sequence"]) for item in graph.inputs
    ]
    outputs = [
        helper.make_tensor_value_info(item.name, onnx.TensorProto.FLOAT, list(item.dims)) for item in graph.outputs
    ]
    made = helper.make_graph(emitter.nodes, graph.name or "model", inputs, outputs, list(emitter.constants.values()))
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="fastcpu"
    )


def has_quantization_points(graph: Graph) -> bool:
    """Whether anything but fp32 can be asked for."""
    quantized = any(value.dtype == "u8" for value in graph.values.values())
    return quantized or any(node.op in ("fake_quant", "attention_qdq") for node in graph.nodes)


def check_target(out: Path, model: Path | None) -> None:
    """InputError unless ``out`` ends in .onnx; OutputError if it is no file, or a file of the directory ``model``."""
    if out.is_dir():
        raise OutputError(f"{out}: exists already")
    if out.suffix != ".onnx":
        raise InputError(f"{out}: the name of an ONNX file ends in .onnx")
    if out.exists() and not out.is_file():
        raise OutputError(f"{out}: exists and is not a file")
    parents = Path(os.path.realpath(out)).parents
    if model is not None and (model / GRAPH_FILE).is_file() and Path(os.path.realpath(model)) in parents:
        raise OutputError(f"{out}: lies inside the model directory {model}")


def export_onnx(model: Graph | str | os.PathLike[str], out: str | os.PathLike[str], form: Form = "fp32") -> Path:
    """Write a graph or a model directory as an .onnx file, which replaces a file that is there.

    Raises:
        fastcpu.errors.InputError: the model has no such form, or ``out`` no suffix .onnx.
        fastcpu.errors.OutputError: ``out`` must not be replaced, or the system refused something.
    """
    path = Path(out)
    check_target(path, None if isinstance(model, Graph) else Path(model))
    proto = to_onnx(model if isinstance(model, Graph) else read_graph(model), form)
    if proto.ByteSize() >= onnx.checker.MAXIMUM_PROTOBUF:
        raise OutputError(f"{path}: {proto.ByteSize() / 1e9:.1f} GB do not fit into one ONNX file (2 GB)")
    with replacing_file(path) as temporary:
        temporary.write_bytes(proto.SerializeToString())
    return path
