"""What an ONNX value stands for while a graph is read.

The importer walks an ONNX graph once and gives each value a symbol. A pattern looks at a node and at the symbols of its
inputs and answers with the symbols of its outputs; runtime ops are emitted when a pattern is complete, so a half-seen
pattern (a GELU after its Erf, an attention before its Softmax) is a symbol too. A symbol that only one pattern makes is
defined beside that pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcpu.graph.ir import Space

if TYPE_CHECKING:
    from fastcpu.frontend.context import Import

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Probe:
    """A concrete batch for which arithmetic on shapes, masks and padding tokens is evaluated.

    ``mask`` is the attention mask, int64 [batch, sequence]; ``padding``, bool [batch, sequence], says which ids are
    that of the padding token.
    """

    batch: int
    sequence: int
    mask: Array
    padding: Array


def _probe(mask: str, padding: str) -> Probe:
    ones, others = (np.array([[int(digit) for digit in row] for row in rows.split()]) for rows in (mask, padding))
    return Probe(len(ones), ones.shape[1], ones.astype(np.int64), others.astype(bool))


# Sizes differ from probe to probe, so that a number which is the same for all of them is a constant of the model.
# The masks have right padding, left padding, holes and none; padding tokens stand elsewhere.
PROBES = (
    _probe("11100 11111", "00011 10000"),
    _probe("0011101 1011110 1111111", "1100000 0100010 0001000"),
    _probe("111111 111111", "000001 011010"),
)


def full_probe(length: int) -> Probe:
    """One sequence of ``length`` real tokens."""
    return Probe(1, length, np.ones((1, length), np.int64), np.zeros((1, length), bool))


@dataclass(frozen=True)
class Grid:
    """A quantization point of the file, in u8: ``x = (q - zero_point) * scale`` (s8 points are shifted by 128)."""

    scale: float
    zero_point: int


class Symbol:
    """Base of all symbols."""

    def shape(self, _probe: Probe, /) -> Shape | None:
        """The shape of the ONNX value under a probe; None where nothing asks for it."""
        return None

    def emit(self, _ctx: Import, /) -> Activation | None:
        """The runtime value of a pattern that is complete, its op emitted; called once. None for any other."""
        return None


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

    def shape(self, _probe: Probe) -> Shape:
        return self.array.shape

    def at(self, _probe: Probe) -> Array:
        return self.array


@dataclass(frozen=True, eq=False)
class Probed(Symbol):
    """An array that depends on nothing but shapes, the attention mask and which ids are ``padding_id``.

    ``at`` computes it for a probe; ``arrays`` holds it for each of PROBES.
    """

    at: Callable[[Probe], Array]
    arrays: tuple[Array, ...]
    padding_id: int | None = None

    def shape(self, probe: Probe) -> Shape:
        return self.at(probe).shape


def probed(at: Callable[[Probe], Array], padding_id: int | None = None) -> Probed:
    """The symbol of what ``at`` computes."""
    remembered = cache(at)
    return Probed(remembered, tuple(remembered(probe) for probe in PROBES), padding_id)


@dataclass(frozen=True, eq=False)
class PositionBias:
    """What a file adds to scores depending on how far a key stands behind its query.

    ``table`` is f32 [heads, 2 reach + 1]: entry ``reach + d`` for a key ``d`` tokens behind; farther keys have the
    first or the last entry. ``name`` is that of what was added, for messages.
    """

    table: NDArray[np.float32]
    name: str


@dataclass(frozen=True)
class Input(Symbol):
    """Token ids or token types, ``[batch, sequence]``."""

    name: str
    role: Literal["ids", "types"]

    def shape(self, probe: Probe) -> Shape:
        return (probe.batch, probe.sequence)


@dataclass(frozen=True)
class Activation(Symbol):
    """A runtime f32 value, ``[batch, sequence, channels]`` or ``[batch, channels]``; ``grid``: put on that grid."""

    value: str
    space: Space
    channels: int
    grid: Grid | None = None

    def shape(self, probe: Probe) -> Shape:
        leading = (probe.batch, probe.sequence) if self.space == "tokens" else (probe.batch,)
        return (*leading, self.channels)

    def emit(self, _ctx: Import, /) -> Activation:
        return self


@dataclass(frozen=True)
class Channels(Symbol):
    """Channels ``begin`` to ``end`` of an activation; ``squeezed``: one channel, its axis dropped."""

    source: Activation
    begin: int
    end: int
    squeezed: bool = False

    def shape(self, probe: Probe) -> Shape:
        leading = self.source.shape(probe)[:-1]
        return leading if self.squeezed else (*leading, self.end - self.begin)


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

    def shape(self, probe: Probe) -> Shape:
        return self.ordered(probe, self.axes)

    def ordered(self, probe: Probe, axes: str) -> Shape:
        """The sizes of ``axes``."""
        sizes = {"b": probe.batch, "s": probe.sequence, "h": self.heads, "d": self.head_dim}
        return tuple(sizes[axis] for axis in axes)


@dataclass(frozen=True)
class Scores(Symbol):
    """``scale * query key^T``, on ``grid`` when there is one, plus ``bias``; ``masked`` once padding keys are out."""

    query: Heads
    key: Heads
    scale: float
    grid: Grid | None = None
    masked: bool = False
    bias: PositionBias | None = None

    def shape(self, probe: Probe) -> Shape:
        return (probe.batch, self.query.heads, probe.sequence, probe.sequence)


@dataclass(frozen=True)
class Probabilities(Symbol):
    """The softmax of scores; ``is_nan`` marks the IsNaN of it, which some exporters add for rows without keys."""

    scores: Scores
    name: str
    grid: Grid | None = None
    is_nan: bool = False

    def shape(self, probe: Probe) -> Shape:
        return self.scores.shape(probe)


@dataclass(frozen=True)
class Context(Symbol):
    """Probabilities times value, still split into heads; ``grids`` are the quantization points seen since."""

    probabilities: Probabilities
    value: Heads
    axes: str = "bhsd"
    grids: tuple[Grid, ...] = ()

    def shape(self, probe: Probe) -> Shape:
        return self.value.ordered(probe, self.axes)


@dataclass(frozen=True)
class Derived(Symbol):
    """What a pooling makes of an activation on the way.

    ``first_token``: the first token with its axis kept, [batch, 1, channels]; ``masked_tokens``: tokens times mask;
    ``token_sum``: their sum, [batch, channels]; ``kept_tokens``: tokens, with something very low in the place of
    padding; ``norm``: the Euclidean length over the channels.
    """

    source: Activation
    kind: Literal["first_token", "masked_tokens", "token_sum", "kept_tokens", "norm"]

    def shape(self, probe: Probe) -> Shape | None:
        if self.kind == "first_token":
            return (probe.batch, 1, self.source.channels)
        return self.source.shape(probe) if self.kind in ("masked_tokens", "kept_tokens") else None

    def emit(self, _ctx: Import, /) -> Activation | None:
        """A mask leaves real tokens as they are, and there are no others."""
        return self.source if self.kind == "masked_tokens" else None


def source_of(symbol: Symbol | None, kind: str) -> Activation | None:
    """What a ``Derived`` of this kind is made of; None for any other symbol."""
    return symbol.source if isinstance(symbol, Derived) and symbol.kind == kind else None


@dataclass(frozen=True)
class Quantized(Symbol):
    """The integers of a QuantizeLinear, before its DequantizeLinear; ``dtype`` is what the file stores them in."""

    source: Symbol
    grid: Grid
    dtype: str

    def shape(self, probe: Probe) -> Shape | None:
        return self.source.shape(probe)
