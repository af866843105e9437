"""ONNX Runtime as a reference for integers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def _with_u8_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same products with constant weights of MatMulInteger as u8."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for i, node in enumerate(graph.node):
        if node.op_type != "MatMulInteger" or node.input[1] not in constants:
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        if weight.dtype != np.int8:
            continue
        zero = numpy_helper.to_array(constants[node.input[3]]) if len(node.input) > 3 else np.int8(0)
        made = {f"u8.weight.{i}": weight, f"u8.zero.{i}": zero}
        graph.initializer.extend(
            numpy_helper.from_array((value.astype(np.int16) + 128).astype(np.uint8), name)
            for name, value in made.items()
        )
        inputs = [node.input[0], f"u8.weight.{i}", node.input[2] if len(node.input) > 2 else "", f"u8.zero.{i}"]
        del node.input[:]
        node.input.extend(inputs)
    return model


def open_exact(model: bytes | str | os.PathLike[str], threads: int = 0) -> Any:
    """A session whose sums of u8 x s8 are right on every CPU.

    Without VNNI, ONNX Runtime adds pairs of such products in saturating 16 bits. The option against that fails where
    products of MatMulInteger share a zero point, so those get weights of u8, for which it has no such kernel.
    """
    import onnxruntime

    proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(str(model))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    exact = _with_u8_weights(proto).SerializeToString()
    return onnxruntime.InferenceSession(exact, options, providers=["CPUExecutionProvider"])
