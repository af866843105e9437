"""Evaluates ONNX nodes on concrete arrays: constant folding, shape arithmetic and mask arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from fastcpu.errors import GraphError
from fastcpu.frontend.symbols import Array


def _gather_elements(node: ir.Node, inputs: Sequence[Array | None]) -> list[Array]:
    data, indices = inputs[0], inputs[1]
    assert data is not None
    assert indices is not None
    attribute = node.attributes.get("axis")
    axis = 0 if attribute is None else attribute.as_int()
    # Along the other axes the indices may be fewer than the elements.
    parts = [slice(None) if i == axis % data.ndim else slice(size) for i, size in enumerate(indices.shape)]
    return [np.take_along_axis(data[tuple(parts)], indices, axis)]


class Evaluator:
    """One node, run by ONNX's own reference implementation of its operator.

    GatherElements is an exception: the reference handles no axis of more than 64 elements beside a batch.
    """

    def __init__(self, node: ir.Node, opset: int) -> None:
        import onnx
        from onnx.reference import ReferenceEvaluator

        self._node = node
        proto = ir.serde.serialize_node(node)
        self._inputs = [name for name in proto.input if name]
        # Types are irrelevant to the reference implementation, which takes them from the arrays.
        graph = onnx.helper.make_graph(
            [proto],
            "node",
            [
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None)
                for name in dict.fromkeys(self._inputs)
            ],
            [
                onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None)
                for name in proto.output
                if name
            ],
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
        self._evaluator: Any = ReferenceEvaluator(model)

    def __call__(self, inputs: Sequence[Array | None]) -> list[Array]:
        """The outputs for ``inputs``, in order."""
        feeds = dict(zip(self._inputs, (array for array in inputs if array is not None), strict=True))
        try:
            if self._node.op_type == "GatherElements":
                return _gather_elements(self._node, inputs)
            with np.errstate(all="ignore"):  # NumPy warns of what ONNX defines, such as the logarithm of 0
                return list(self._evaluator.run(None, feeds))
        except Exception as error:  # the reference implementation raises whatever NumPy raises
            raise GraphError(f"node '{self._node.name}' ({self._node.op_type}) cannot be evaluated: {error}") from error
