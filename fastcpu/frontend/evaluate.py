"""Evaluates ONNX nodes on concrete arrays: constant folding, shape arithmetic and mask arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx_ir as ir

from fastcpu.errors import GraphError
from fastcpu.frontend.symbols import Array

_SMALL = 4096
"""Bytes of a node without a tensor to speak of."""


def _gather_elements(node: ir.Node, inputs: Sequence[Array | None]) -> list[Array]:
    data, indices = inputs[0], inputs[1]
    assert data is not None
    assert indices is not None
    attribute = node.attributes.get("axis")
    axis = 0 if attribute is None else attribute.as_int()
    # Along the other axes the indices may be fewer than the elements.
    parts = [slice(None) if i == axis % data.ndim else slice(size) for i, size in enumerate(indices.shape)]
    return [np.take_along_axis(data[tuple(parts)], indices, axis)]


@lru_cache(maxsize=1024)
def _reference(content: bytes, opset: int) -> Any:
    """The reference implementation of a node; nodes that differ in names alone, as those of layers do, share it."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    node = onnx.NodeProto.FromString(content)
    # Types are irrelevant to the reference implementation, which takes them from the arrays.
    inputs, outputs = (
        [
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None)
            for name in dict.fromkeys(names)
            if name
        ]
        for names in (node.input, node.output)
    )
    graph = onnx.helper.make_graph([node], "node", inputs, outputs)
    return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)]))


class Evaluator:
    """One node, run by ONNX's own reference implementation of its operator.

    GatherElements is an exception: the reference handles no axis of more than 64 elements beside a batch.
    """

    def __init__(self, node: ir.Node, opset: int) -> None:
        self._node = node
        proto = ir.serde.serialize_node(node)
        names = {name: str(number) for number, name in enumerate(dict.fromkeys((*proto.input, *proto.output))) if name}
        for values in (proto.input, proto.output):
            values[:] = [names.get(name, "") for name in values]
        proto.name = proto.doc_string = ""
        del proto.metadata_props[:]
        self._inputs = [name for name in proto.input if name]
        content = proto.SerializeToString(deterministic=True)
        make = _reference if len(content) <= _SMALL else _reference.__wrapped__
        self._evaluator = make(content, opset)

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
