"""The same operations in float64, for bounds on single operations given the runtime's own inputs.

The bars: s32 accumulators exact; u8 equal except where the exact value lies within `TIE` of a rounding tie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

F64 = NDArray[np.float64]

TIE = 1e-4
"""How close to a tie, in steps of the u8 value, an exact value must lie for its rounding to be allowed to differ."""


def u8_mismatches(got: NDArray[np.uint8], exact: F64) -> int:
    """How many u8 values differ from ``rint(exact)`` clamped, other than next to a tie."""
    clamped = np.clip(exact, 0, 255)
    wrong = got != np.rint(clamped)
    near_tie = np.abs(clamped - np.floor(clamped) - 0.5) <= TIE
    neighbour = np.abs(got.astype(np.float64) - clamped) <= 0.5 + TIE
    return int((wrong & ~(near_tie & neighbour)).sum())


def gelu(x: Any) -> F64:
    x = np.asarray(x, np.float64)
    return np.asarray(0.5 * x * (1 + erf(x / np.sqrt(2))))


def gelu_tanh(x: Any) -> F64:
    x = np.asarray(x, np.float64)
    return np.asarray(0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))


FUNCTIONS = {
    "none": lambda x: np.asarray(x, np.float64),
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "tanh": np.tanh,
}


def quantize(x: Any, scale: float, zero_point: int) -> F64:
    """Before rounding and clamping."""
    return np.asarray(x, np.float64) / float(np.float32(scale)) + zero_point


def dequantize(q: NDArray[np.uint8], scale: float, zero_point: int) -> F64:
    return (q.astype(np.float64) - zero_point) * float(np.float32(scale))


def linear(w: NDArray[Any], w_scale: Any, x: F64, bias: Any) -> F64:
    """Exact value of a linear whose dequantized input is ``x``; ``w_scale`` None for an f32 weight."""
    real = w.astype(np.float64) if w_scale is None else w.astype(np.float64) * np.asarray(w_scale, np.float64)[:, None]
    return real @ x + np.asarray(bias, np.float64)[:, None]


def layernorm(a: Any, b: Any, gamma: Any, beta: Any, epsilon: float) -> F64:
    h = np.asarray(a, np.float64) if b is None else np.asarray(a, np.float64) + np.asarray(b, np.float64)
    mean = h.mean(axis=0)
    r = 1 / np.sqrt(((h - mean) ** 2).mean(axis=0) + epsilon)
    return (h - mean) * r * np.asarray(gamma, np.float64)[:, None] + np.asarray(beta, np.float64)[:, None]


def attention(q: F64, k: F64, v: F64, softmax_scale: float, causal: bool) -> F64:
    """Softmax attention of real numbers, ``[..., head_dim, length]``."""
    scores = np.swapaxes(k, -1, -2) @ q * softmax_scale
    if causal:
        keys, queries = scores.shape[-2:]
        scores = np.where(np.arange(keys)[:, None] > np.arange(queries) + keys - queries, -np.inf, scores)
    p = np.exp(scores - scores.max(axis=-2, keepdims=True))
    return np.asarray(v @ (p / p.sum(axis=-2, keepdims=True)))


def attention_u8(scores: Any, c: np.float32, v: NDArray[np.uint8], ov: np.float32, out_zero_point: int) -> F64:
    """u8 output before rounding, from exact s32 scores ``[..., keys, queries]`` and probabilities rounded to u8."""
    scores = np.asarray(scores, np.float64)
    p = np.rint(255 * np.exp2((scores - scores.max(axis=-2, keepdims=True)) * float(c)))
    o = (v.astype(np.float64) - 128) @ p
    return np.asarray(o * float(ov) / p.sum(axis=-2)[..., None, :] + out_zero_point)


def l2norm(x: Any) -> F64:
    x = np.asarray(x, np.float64)
    return np.asarray(x / np.maximum(np.sqrt((x**2).sum(axis=0)), 1e-12))


def spacing(reference: F64) -> F64:
    """Size of one f32 ULP at each value."""
    return np.spacing(np.abs(reference).astype(np.float32)).astype(np.float64)
