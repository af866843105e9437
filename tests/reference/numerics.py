"""The operations of docs/numerics.md, section 3, in NumPy f32, each rounding where the specification rounds.

Activations are ``[channels, tokens]``. Reductions are loops in ascending order over vectors of independent results, so
that NumPy's own summation order never matters. With ``exact=False`` f32 linears and f32 attention go through BLAS: fast
enough for whole test sets, and equal to the specification only up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
S32 = NDArray[np.int32]

LOG2_E = float(np.log2(np.e))


def f32(x: Any) -> Any:
    """One rounding to f32."""
    return np.asarray(x).astype(np.float32)


def fma(a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` of f32 arrays with a single rounding.

    The product is exact in double. The sum is rounded to odd, which keeps the final rounding to f32 correct because a
    double has more than two bits to spare.
    """
    product = np.float64(a) * np.float64(b)
    addend = np.float64(c)
    total = np.asarray(product + addend)
    with np.errstate(invalid="ignore"):
        back = total - product
        error = (product - (total - back)) + (addend - back)
    bits = total.view(np.int64)
    inexact = np.isfinite(total) & (error != 0) & ((bits & 1) == 0)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return f32(np.where(inexact, bits + step, bits).view(np.float64))


def sum_ascending(rows: F32) -> F32:
    """Sum over the first axis, one f32 addition per row, starting from zero."""
    total = np.zeros(rows.shape[1:], np.float32)
    for row in rows:
        total = total + row
    return total


def matmul_u8s8(w: NDArray[Any], x: NDArray[Any]) -> S32:
    """``w @ x`` of integers, exact: every partial sum of the products is an integer below 2^53."""
    return (w.astype(np.float64) @ x.astype(np.float64)).astype(np.int32)


# ---- quantization ----


def to_u8(t: F32, zero_point: int) -> U8:
    """Clamp to [0, 255], round to nearest even; NaN gives the zero point."""
    nan = np.isnan(t)
    clamped = np.minimum(np.maximum(np.where(nan, np.float32(zero_point), t), np.float32(0)), np.float32(255))
    return np.rint(clamped).astype(np.uint8)


def inverse(scale: float, smooth: F32 | None = None) -> Any:
    """f32, or [C, 1] with a factor for each of C channels."""
    step = np.float64(np.float32(scale))
    return f32(1.0 / (step if smooth is None else step * smooth.astype(np.float64)[:, None]))


def quantize(x: F32, scale: float, zero_point: int, smooth: F32 | None = None) -> U8:
    t = x * inverse(scale, smooth)
    t = np.where(np.isnan(t), np.float32(0), t)
    t = np.minimum(np.maximum(t, -np.float32(zero_point)), np.float32(255 - zero_point))
    return (np.rint(t) + np.float32(zero_point)).astype(np.uint8)


def dequantize(q: U8, scale: float, zero_point: int) -> F32:
    return (f32(q) - np.float32(zero_point)) * np.float32(scale)


def quantize_dynamic(x: F32) -> tuple[U8, F32]:
    """u8 with zero point 128 and one scale per token: ``[C, T] -> [C, T], [T]``."""
    magnitude = np.fmax.reduce(np.abs(x), axis=0, initial=np.float32(0))
    usable = (magnitude > 0) & np.isfinite(magnitude)
    safe = np.where(usable, magnitude, np.float32(127))
    scale = np.where(usable, safe / np.float32(127), np.float32(1))
    inv = np.where(usable, np.float32(127) / safe, np.float32(1))
    with np.errstate(invalid="ignore"):
        t = x * inv
    t = np.where(np.isnan(t), np.float32(0), t)
    t = np.minimum(np.maximum(t, np.float32(-127)), np.float32(127))
    return (128 + np.rint(t).astype(np.int32)).astype(np.uint8), scale


def fake_quant(x: F32, scale: float, zero_point: int, bias: F32 | None) -> F32:
    y = dequantize(quantize(x, scale, zero_point), scale, zero_point)
    return y if bias is None else y + bias[:, None]


# ---- linear ----


def accumulate(w: NDArray[np.int8], x: U8, x_zero_point: int, bias_s32: S32 | None) -> S32:
    """``init[n] + sum_k w[n, k] * x[k, t]``."""
    init = -np.int64(x_zero_point) * w.astype(np.int64).sum(axis=1)
    if bias_s32 is not None:
        init = init + bias_s32
    return (matmul_u8s8(w, x).astype(np.int64) + init[:, None]).astype(np.int32)


def epilogue(acc: S32, mul: F32, add: F32, token_scale: F32 | None = None) -> F32:
    y = f32(acc) * mul[:, None]
    if token_scale is not None:
        y = y * token_scale[None, :]
    return y + add[:, None]


def linear_constants(
    w_scale: F32,
    bias: F32,
    x_scale: float,
    y_scale: NDArray[Any] | float | None,
    y_zero_point: NDArray[Any] | int | None,
) -> tuple[F32, F32]:
    """``mul`` and ``add`` of section 4. ``x_scale`` is 1 for a dynamic input; ``y_scale`` None means an f32 output."""
    mul = np.float64(np.float32(x_scale)) * w_scale.astype(np.float64)
    add = bias.astype(np.float64)
    if y_scale is not None:
        step = np.float32(y_scale).astype(np.float64)
        mul = mul / step
        add = add / step + np.float64(0 if y_zero_point is None else y_zero_point)
    return f32(mul), f32(add)


def linear_f32(w: F32, x: F32, bias: F32, exact: bool = True) -> F32:
    if not exact:
        return w @ x + bias[:, None]
    acc = np.zeros((w.shape[0], x.shape[1]), np.float32)
    for k in range(w.shape[1]):
        acc = fma(w[:, k, None], x[None, k], acc)
    return acc + bias[:, None]


# ---- embedding, normalization, pooling ----


def embedding(tables: Sequence[tuple[NDArray[Any], F32 | None]], rows: Sequence[S32]) -> F32:
    """Sum of table rows, ``[C, T]``; a table is ``(f32, None)`` or ``(s8, scale per row)``."""
    total: F32 | None = None
    for (data, scale), index in zip(tables, rows, strict=True):
        entry = data[index] if scale is None else f32(data[index]) * scale[index][:, None]
        total = entry if total is None else total + entry
    assert total is not None
    return np.ascontiguousarray(total.T)


def layernorm(a: F32, b: F32 | None, gamma: F32, beta: F32, epsilon: float) -> F32:
    h = a if b is None else a + b
    channels = np.float32(h.shape[0])
    mean = sum_ascending(h) / channels
    variance = np.zeros(h.shape[1], np.float32)
    for row in h:
        d = row - mean
        variance = variance + d * d
    r = np.float32(1) / np.sqrt(variance / channels + np.float32(epsilon))
    return ((h - mean) * r) * gamma[:, None] + beta[:, None]


def pool(x: F32, mode: str) -> F32:
    """One sequence, ``[C, length] -> [C]``."""
    if x.shape[1] == 0:
        return np.zeros(x.shape[0], np.float32)
    if mode == "cls":
        return x[:, 0].copy()
    if mode == "max":
        return x.max(axis=1)
    assert mode == "mean", mode
    return sum_ascending(np.ascontiguousarray(x.T)) / np.float32(x.shape[1])


def l2norm(x: F32) -> F32:
    squares = np.zeros(x.shape[1], np.float32)
    for row in x:
        squares = squares + row * row
    return x / np.maximum(np.sqrt(squares), np.float32(1e-12))


# ---- attention ----


def exponent_scale(softmax_scale: float, *scales: float) -> np.float32:
    """``c`` of section 4: ``[q_scale * k_scale *] softmax_scale * log2(e)``, left to right in double."""
    product = 1.0
    for scale in (*scales, softmax_scale):
        product *= float(np.float32(scale))
    return np.float32(product * LOG2_E)


def _causal_mask(scores: NDArray[Any], lowest: Any) -> NDArray[Any]:
    """Scores ``[..., keys, queries]`` with the keys after each query set to ``lowest``."""
    keys, queries = scores.shape[-2:]
    hidden = np.arange(keys)[:, None] > np.arange(queries)[None, :] + (keys - queries)
    return np.where(hidden, lowest, scores)


def position_bias(table: F32, columns: NDArray[Any]) -> F32:
    """``[heads, 2 reach + 1]`` by distance, and the columns ``[batch, length]`` of tokens, as ``[batch, heads, keys,
    queries]``."""
    reach = table.shape[1] // 2
    behind = columns[:, :, None] - columns[:, None, :]
    return table[:, reach + np.clip(behind, -reach, reach)].swapaxes(0, 1)


def attention_u8(
    q: U8,
    k: U8,
    v: U8,
    q_zero_point: int,
    c: np.float32,
    ov: np.float32,
    out_zero_point: int | None,
    causal: bool,
    exp2: Any,
    bias: F32 | None = None,
) -> NDArray[Any]:
    """Heads of sequences of one length, ``[batch, heads, head_dim, length]``.

    ``out_zero_point`` None gives the f32 output; ``bias`` is ``[batch, heads, keys, queries]`` in units of exponents.
    """
    keys = k.astype(np.float64) - 128
    scores = np.swapaxes(keys, -1, -2) @ q.astype(np.float64) - q_zero_point * keys.sum(axis=-2)[..., None]
    if causal:
        scores = _causal_mask(scores, -(2.0**40))
    t = f32(scores - scores.max(axis=-2, keepdims=True)) * c
    if bias is not None:
        t = t + bias
        if causal:
            t = _causal_mask(t, np.float32(-np.inf))
        t = t - t.max(axis=-2, keepdims=True)
    p = np.rint(np.float32(255) * exp2(t))
    if causal:
        p = _causal_mask(p, np.float32(0))
    den = p.astype(np.float64).sum(axis=-2)
    o = (v.astype(np.float64) - 128) @ p.astype(np.float64)
    r = ov / f32(den)
    y = f32(o) * r[..., None, :]
    if out_zero_point is None:
        return y
    return to_u8(y + np.float32(out_zero_point), out_zero_point)


def attention_f32(
    q: F32, k: F32, v: F32, c: np.float32, causal: bool, exp2: Any, exact: bool = True, bias: F32 | None = None
) -> F32:
    """Heads of sequences of one length: ``[batch, heads, head_dim, length]`` each; ``bias`` as for u8."""
    if exact:
        scores = np.zeros((*k.shape[:-2], k.shape[-1], q.shape[-1]), np.float32)
        for d in range(q.shape[-2]):
            scores = fma(k[..., d, :, None], q[..., d, None, :], scores)
    else:
        scores = np.swapaxes(k, -1, -2) @ q
    if bias is not None:
        scores, c = scores * c + bias, np.float32(1)
    if causal:
        scores = _causal_mask(scores, np.float32(-np.inf))
    with np.errstate(invalid="ignore"):
        p = exp2((scores - scores.max(axis=-2, keepdims=True)) * c)
    if causal:
        p = _causal_mask(p, np.float32(0))
    den = np.zeros((*p.shape[:-2], p.shape[-1]), np.float32)
    o = np.zeros((*q.shape[:-2], v.shape[-2], q.shape[-1]), np.float32)
    for j in range(p.shape[-2]):
        den = den + p[..., j, :]
        if exact:
            o = fma(p[..., None, j, :], v[..., :, None, j], o)
    if not exact:
        o = v @ p
    return o * (np.float32(1) / den)[..., None, :]
