"""The models that DeepSparse is given: checked in ONNX Runtime, without its package."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from bench.e2e import deepsparse
from bench.sparsity import zero_blocks

TOKENS, INPUTS, OUTPUTS = 6, 32, 16


def _model(weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """x [tokens, K] through a linear, tanh, and a head of 2 outputs that must stay in f32."""
    head = np.linspace(-1, 1, OUTPUTS * 2, dtype=np.float32).reshape(OUTPUTS, 2)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], "linear"),
        helper.make_node("Add", ["b", "product"], ["y"], "bias"),
        helper.make_node("Tanh", ["y"], ["t"], "tanh"),
        helper.make_node("MatMul", ["t", "head"], ["logits"], "head"),
    ]
    constants = [numpy_helper.from_array(value, name) for name, value in (("w", weight), ("b", bias), ("head", head))]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [TOKENS, INPUTS])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [TOKENS, width])
        for name, width in (("y", OUTPUTS), ("logits", 2))
    ]
    graph = helper.make_graph(nodes, "test", [x], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": x}))


def test_linears_become_integer_products_close_to_f32() -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((INPUTS, OUTPUTS)).astype(np.float32)
    model = _model(weight, random.standard_normal(OUTPUTS).astype(np.float32))
    x = random.uniform(-1, 3, (TOKENS, INPUTS)).astype(np.float32)
    expected = _run(model, x)
    # Twice the range, so that no two products leave 16 bits: ONNX Runtime saturates there on CPUs without VNNI.
    quantized = deepsparse.quantize(model, [{"x": 2 * x}])
    onnx.checker.check_model(quantized)
    ops = [node.op_type for node in quantized.graph.node]
    assert ops == ["QuantizeLinear", "MatMulInteger", "Add", "Cast", "Mul", "Tanh", "MatMul"]
    assert {tensor.name for tensor in quantized.graph.initializer}.isdisjoint({"w", "b"})
    for value, want in zip(_run(quantized, x), expected, strict=True):
        np.testing.assert_allclose(value, want, atol=0.3)
        assert not np.array_equal(value, want)


def test_blocks_of_outputs_become_blocks_of_inputs() -> None:
    random = np.random.default_rng(1)
    kept = np.repeat(random.random((OUTPUTS // 4, INPUTS)) < 0.3, 4, axis=0)
    weight = np.where(kept, random.standard_normal((OUTPUTS, INPUTS)), 0).astype(np.float32)
    turned = deepsparse.turn_blocks(np.ascontiguousarray(weight.T)).T
    assert sorted(turned.ravel()) == sorted(weight.ravel())
    blocks = turned.reshape(OUTPUTS, INPUTS // 4, 4)
    assert int((~blocks.any(axis=2)).sum()) == zero_blocks(weight) > 0
