"""What an ONNX value stands for while a graph is read.

The importer walks an ONNX graph once and gives each value a symbol. A pattern looks at a node and at the symbols of its
inputs and answers with the symbols of its outputs; runtime ops are emitted when a pattern is complete, so a half-seen
pattern (a GELU after its Erf, an attention before its Softmax) is a symbol too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.ir import Space

Array = NDArray[Any]


@dataclass(frozen=True)
class Probe:
    """A concrete batch, sequence length and attention mask, for which shape and mask arithmetic is evaluated."""

    batch: int
    sequence: int
    mask: Array


def _probe(*rows: str) -> Probe:
    mask = np.array([[int(digit) for digit in row] for row in rows], np.int64)
    return Probe(mask.shape[0], mask.shape[1], mask)


# Sizes differ from probe to probe, so that a number which is the same for all of them is a constant of the model.
# The masks have right padding, left padding, holes and none.
PROBES = (_probe("11100", "11111"), _probe("0011101", "1011110", "1111111"), _probe("111111", "111111"))


@dataclass(frozen=True)
class Grid:
    """A quantization point of the file, in u8: ``x = (q - zero_point) * scale`` (s8 points are shifted by 128)."""

    scale: float
    zero_point: int


class Symbol:
    """Base of all symbols."""


@dataclass(frozen=True, eq=False)
class QuantizedConstant:
    """The integers behind a DequantizeLinear of a constant; ``axis`` is that of the scales, None for one scale."""

    data: Array
    scale: NDArray[np.float32]
    zero_point: Array
    axis: int | None


@dataclass(frozen=True, eq=False)
class Constant(Symbol):
    """An array of the file; ``name`` is that of its initializer, for messages and tensor names."""

    array: Array
    name: str
    quantized: QuantizedConstant | None = None


@dataclass(frozen=True, eq=False)
class Probed(Symbol):
    """An array that depends on nothing but batch, sequence and attention mask: one array per probe."""

    arrays: tuple[Array, ...]


@dataclass(frozen=True)
class Input(Symbol):
    """Token ids or token types, ``[batch, sequence]``."""

    name: str
    role: Literal["ids", "types"]


@dataclass(frozen=True)
class Activation(Symbol):
    """A runtime f32 value, ``[batch, sequence, channels]`` or ``[batch, channels]``; ``grid``: put on that grid."""

    value: str
    space: Space
    channels: int
    grid: Grid | None = None


@dataclass(frozen=True)
class Channels(Symbol):
    """Channels ``begin`` to ``end`` of an activation; ``squeezed``: one channel, its axis dropped."""

    source: Activation
    begin: int
    end: int
    squeezed: bool = False


@dataclass(frozen=True, eq=False)
class EmbeddingSum(Symbol):
    """A sum of table rows.

    ``terms`` pair the token value that indexes (``ids``, ``positions``, ``types``) with its table; ``row`` is constant.
    """

    terms: tuple[tuple[str, Constant], ...]
    channels: int
    name: str
    row: Array | None = None
    batched: bool = True


@dataclass(frozen=True)
class Scaled(Symbol):
    """``source * factor``."""

    source: Activation
    factor: float


@dataclass(frozen=True)
class ErfTerm(Symbol):
    """``a * erf(source / sqrt(2)) + b``."""

    source: Activation
    a: float
    b: float


@dataclass(frozen=True)
class GeluPart(Symbol):
    """``factor * gelu(source)``."""

    source: Activation
    factor: float


@dataclass(frozen=True, eq=False)
class NormPart(Symbol):
    """A LayerNorm written out, up to ``stage``."""

    source: Activation
    stage: Literal[
        "mean", "centered", "squared", "variance", "variance_eps", "deviation", "inverse", "normalized", "scaled"
    ]
    epsilon: float = 0.0
    gamma: Constant | None = None


@dataclass(frozen=True)
class Heads(Symbol):
    """A linear's output split into heads; ``axes`` orders b(atch), s(equence), h(eads), d (head size).

    ``factor`` scales before the grid, ``after`` behind it.
    """

    source: Channels
    heads: int
    head_dim: int
    axes: str = "bshd"
    factor: float = 1.0
    grid: Grid | None = None
    after: float = 1.0


@dataclass(frozen=True)
class Scores(Symbol):
    """``scale * query key^T``, quantized with ``grid`` when there is one; ``masked`` once padding keys are out."""

    query: Heads
    key: Heads
    scale: float
    grid: Grid | None = None
    masked: bool = False


@dataclass(frozen=True)
class Probabilities(Symbol):
    """The softmax of scores; ``is_nan`` marks the IsNaN of it, which some exporters add for rows without keys."""

    scores: Scores
    name: str
    grid: Grid | None = None
    is_nan: bool = False


@dataclass(frozen=True)
class Context(Symbol):
    """Probabilities times value, still split into heads; ``grids`` are the quantization points seen since."""

    probabilities: Probabilities
    value: Heads
    axes: str = "bhsd"
    grids: tuple[Grid, ...] = ()


@dataclass(frozen=True)
class FirstToken(Symbol):
    """The first token with its axis kept: ``[batch, 1, channels]``."""

    source: Activation


@dataclass(frozen=True)
class MaskedTokens(Symbol):
    """Tokens times mask."""

    source: Activation


@dataclass(frozen=True)
class TokenSum(Symbol):
    """The sum over the real tokens, ``[batch, channels]``."""

    source: Activation


@dataclass(frozen=True)
class Norm(Symbol):
    """The Euclidean length of an activation, over its channels."""

    source: Activation


@dataclass(frozen=True)
class Quantized(Symbol):
    """The integers of a QuantizeLinear, before its DequantizeLinear; ``dtype`` is what the file stores them in."""

    source: Symbol
    grid: Grid
    dtype: str
