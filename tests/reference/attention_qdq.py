"""The attention of an imported QDQ file (docs/numerics.md, section 3), for the executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tests.reference import numerics as n
from tests.reference.pointwise import exp2

if TYPE_CHECKING:
    from fastcpu.graph.ir import Node
    from tests.reference.executor import Run

Array = NDArray[Any]


def attention_qdq(run: Run, node: Node) -> list[Array]:
    attrs = node.attrs
    heads, head_dim = attrs["heads"], attrs["head_dim"]

    def on_grid(role: str, x: Array) -> Array:
        if f"{role}_scale" not in attrs:
            return x
        return n.fake_quant(x, attrs[f"{role}_scale"], attrs[f"{role}_zero_point"], None)

    parts = []
    for name, role in zip(node.inputs, "qkv", strict=True):
        first = attrs.get(f"{role}_offset", 0)
        x = run.values[name][first : first + heads * head_dim].reshape(heads, head_dim, -1)
        parts.append(on_grid(role, x * np.float32(attrs.get(f"{role}_factor", 1.0))))
    result = np.empty_like(parts[0])
    bias = run.tensor(node, "bias")
    for tokens in run.ragged.groups():
        q, k, v = (part[:, :, tokens].transpose(2, 0, 1, 3) for part in parts)
        scores = on_grid("score", _product(np.swapaxes(k, -1, -2), q, run.exact) * np.float32(attrs["scale"]))
        if bias is not None:
            scores = scores + n.position_bias(bias, run.ragged.column[tokens])
        p = exp2((scores - scores.max(axis=-2, keepdims=True)) * np.float32(n.LOG2_E))
        den = np.zeros_like(p[..., 0, :])
        for j in range(p.shape[-2]):
            den = den + p[..., j, :]
        p = on_grid("probability", p / den[..., None, :])
        result[:, :, tokens] = _product(v, p, run.exact).transpose(1, 2, 0, 3)
    return [result.reshape(heads * head_dim, -1)]


def _product(a: Array, b: Array, exact: bool) -> Array:
    """``a @ b`` as a chain of fma in ascending order, or through BLAS."""
    if not exact:
        return a @ b
    total = np.zeros((*a.shape[:-1], b.shape[-1]), np.float32)
    for i in range(a.shape[-1]):
        total = n.fma(a[..., :, None, i], b[..., None, i, :], total)
    return total
