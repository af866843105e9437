"""What is added to attention scores: a mask that hides padding keys, a bias by relative position, or both.

The ragged runtime never sees padding, so a mask is dropped, which is right only if it says exactly that; a bias becomes
a table per head and distance. Both are read off their values, for several attention masks (right and left padding,
holes, none) and for a long sequence, however the exporter computes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcpu.frontend.symbols import Array, Constant, PositionBias, Probe, Probed, full_probe

if TYPE_CHECKING:
    from fastcpu.frontend.context import Import

HIDDEN = -9999.0
"""An addend up to this is exp() = 0 next to any score of a trained model; BERT's first exporters wrote -10000."""

_BY_MORE = "it adds something to scores of real tokens that depends on more than their distance"

_LONGEST = 1024
"""Distances up to this are looked at; a bias of a longer model must not change any more by then."""


@dataclass(frozen=True)
class Addend:
    """What an addend means; ``bias`` is None where it adds nothing to scores of real tokens."""

    bias: PositionBias | None
    hides_padding: bool


def read(ctx: Import, addend: Constant | Probed, heads: int, name: str) -> Addend | str:
    """The meaning of what broadcasts to [batch, heads, query, key], or why it has none that the runtime knows."""
    fulls = []
    for probe in ctx.probes:
        full = _full(addend, probe, heads)
        if isinstance(full, str):
            return full
        if (full[_seen(probe, heads)] <= HIDDEN).any():
            return "it hides keys that attention_mask does not (a causal or local mask)"
        fulls.append(full)
    bias: PositionBias | None = None
    if any((full[_seen(probe, heads)] != 0).any() for probe, full in zip(ctx.probes, fulls, strict=True)):
        found = _position_bias(ctx, addend, heads, name)
        if isinstance(found, str):
            return found
        bias = found
    hides = everywhere = True
    for probe, full in zip(ctx.probes, fulls, strict=True):
        expected = np.broadcast_to(_by_distance(bias, heads, probe.sequence), full.shape)
        seen, query_is_real = _seen(probe, heads), probe.mask[:, None, :, None] != 0
        if (full[seen] != expected[seen]).any():
            return _BY_MORE
        hidden = np.broadcast_to(query_is_real, full.shape) & ~seen
        hides = hides and bool((full[hidden] - expected[hidden] <= HIDDEN).all())
        everywhere = everywhere and bool((full == expected).all())
    if not hides and not everywhere:
        return "it does not hide the keys that attention_mask hides"
    return Addend(bias, hides)


def _seen(probe: Probe, heads: int) -> NDArray[np.bool_]:
    """[batch, heads, query, key]: whether query and key are real tokens."""
    real = probe.mask != 0
    pairs = real[:, None, :, None] & real[:, None, None, :]
    return np.broadcast_to(pairs, (probe.batch, heads, probe.sequence, probe.sequence))


def _full(addend: Constant | Probed, probe: Probe, heads: int) -> Array | str:
    shape = (probe.batch, heads, probe.sequence, probe.sequence)
    array = addend.at(probe)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        return f"its shape {array.shape} does not broadcast to [batch, heads, query, key] = {shape}"


def _distances(length: int) -> Array:
    """[query, key]: how many tokens the key stands behind the query."""
    return np.arange(length)[None, :] - np.arange(length)[:, None]


def _by_distance(bias: PositionBias | None, heads: int, length: int) -> Array:
    """The bias as [heads, query, key]; zeros without one."""
    if bias is None:
        return np.zeros((heads, length, length), np.float32)
    reach = bias.table.shape[1] // 2
    return np.asarray(bias.table[:, reach + np.clip(_distances(length), -reach, reach)])


def _position_bias(ctx: Import, addend: Constant | Probed, heads: int, name: str) -> PositionBias | str:
    """The table of an addend, from one long sequence without padding."""
    if (id(addend), heads) in ctx.biases:
        return ctx.biases[id(addend), heads][1]
    longest = ctx.builder.longest
    length = min(longest or _LONGEST, _LONGEST)
    full = _full(addend, full_probe(length), heads)
    if isinstance(full, str):
        return full
    full = np.asarray(full[0], np.float32)
    # Distance - (length - 1) to length - 1: the first key of every query from the last one on, and the first query.
    table = np.concatenate([full[:, ::-1, 0], full[:, 0, 1:]], axis=1)
    if not np.array_equal(full, table[:, _distances(length) + length - 1]):
        return _BY_MORE
    changes = np.flatnonzero((table[:, 1:] != table[:, :-1]).any(axis=0)) - (length - 1)
    reach = int(np.where(changes < 0, -changes, changes + 1).max(initial=0))
    if longest != length and reach == length - 1:
        return f"its position bias still changes at a distance of {reach} tokens"
    bias = PositionBias(np.ascontiguousarray(table[:, length - 1 - reach : length + reach]), name)
    ctx.biases[id(addend), heads] = (addend, bias)
    return bias
