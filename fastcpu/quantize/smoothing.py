"""Smoothing: what a LayerNorm writes in u8 is divided by a factor per channel, and the weights that read it multiplied.

A static scale is shared by all channels, so those that are far larger than the rest cost the others their levels. The
factor moves a part of that difference into the weights, whose scales are per row (Xiao et al., 2022, SmoothQuant). The
f32 output of the LayerNorm, the residual stream, stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import QuantizationError
from fastcpu.graph.ir import Graph, Node
from fastcpu.quantize.calibrate import chunks, largest_per_channel, observe
from fastcpu.quantize.executor import Executor, Feeds
from fastcpu.quantize.layers import Record, Selection
from fastcpu.quantize.schemes.static import Static, make_plan, quantize_static

F32 = NDArray[np.float32]

ALPHAS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""What ``auto`` tries, beside no smoothing."""

LARGEST_FACTOR = 1024.0
"""Factors are within this of their geometric mean, which is 1."""

_TINY = float(np.finfo(np.float64).tiny)


def smoothable(graph: Graph, selection: Selection) -> list[tuple[list[str], list[str]]]:
    """Groups of values that share their factor: the names of the values, and those of the weights that read them.

    A value is the f32 output of a layernorm. Values that the same weights read (ALBERT) are one group; a value with a
    weight that something else reads as well is in none.
    """
    plan = make_plan(graph, selection, Record())
    weights: dict[str, list[str]] = {}
    for node in plan.linears.values():
        producer = plan.edges[node.inputs[0]]
        if producer.op == "layernorm" and len(producer.outputs) == 1:
            weights.setdefault(node.inputs[0], []).append(node.tensors["weight"])
    groups: dict[frozenset[str], list[str]] = {}
    for value, names in weights.items():
        groups.setdefault(frozenset(names), []).append(value)
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in dict.fromkeys(node.tensors.values()):
            users.setdefault(name, []).append(node)
    return [
        (values, sorted(names))
        for names, values in groups.items()
        if all(node.name in plan.linears and node.inputs[0] in values for name in names for node in users[name])
    ]


def factors(graph: Graph, selection: Selection, largest: Mapping[str, F32], alpha: float) -> dict[str, F32]:
    """The factor [channels] of every smoothable value, from the largest magnitude [channels] that calibration saw."""
    found: dict[str, F32] = {}
    for values, names in smoothable(graph, selection):
        matrices = [graph.tensors[name].data for name in names]
        x = np.max([largest[value] for value in values], axis=0)
        w = np.max([np.abs(matrix).max(axis=0, initial=0) for matrix in matrices], axis=0)
        found |= dict.fromkeys(values, smoothing_factor(x, w, alpha))
    return found


def smoothing_factor(x: F32, w: F32, alpha: float) -> F32:
    """``x ** alpha / w ** (1 - alpha)`` (equation 4 of the paper), over its geometric mean; all arrays are [channels].

    ``x`` and ``w`` are the largest magnitudes of the activation and of the weights that read it. A channel that
    calibration saw as zero gets 1, and one that only zeros read the largest factor, so that it takes no levels.
    """
    if not np.isfinite(w).all():  # the quantizer of weights names the tensor
        return np.ones(x.shape, np.float32)
    alive = (x > 0) & (w > 0)
    safe_x, safe_w = (np.where(alive, array, 1).astype(np.float64) for array in (x, w))
    exponent = alpha * np.log(safe_x) - (1 - alpha) * np.log(safe_w)
    exponent -= exponent[alive].mean() if alive.any() else 0.0
    factor = np.clip(np.exp(exponent), 1 / LARGEST_FACTOR, LARGEST_FACTOR)
    factor[x == 0] = 1.0
    factor[(x > 0) & (w == 0)] = LARGEST_FACTOR
    return factor.astype(np.float32)


def quantize_smoothed(
    graph: Graph, batches: Sequence[Feeds], executor: Executor, config: Static, alpha: float | Literal["auto"]
) -> tuple[Graph, Record]:
    """`quantize_static` with smoothing, from calibration batches, which run several times.

    ``alpha`` from 0 to 1 moves more of the difference between channels into the weights; ``auto`` takes that of
    `ALPHAS`, or none, whose outputs on the calibration batches are nearest to those of the f32 graph.

    Raises:
        QuantizationError: no layernorm feeds a quantized linear, or what calibration and quantization refuse.
    """
    values = [value for group, _ in smoothable(graph, config.selection) for value in group]
    if not values:
        raise QuantizationError("nothing to smooth: no layernorm feeds a quantized linear with weights of its own")
    largest = largest_per_channel(graph, batches, executor, values)

    def quantized(candidate: float | None) -> tuple[Graph, Record]:
        smooth = {} if candidate is None else factors(graph, config.selection, largest, candidate)
        chosen = replace(config, smooth=smooth)
        made, record = quantize_static(graph, observe(graph, batches, executor, chosen.wanted(graph)), chosen)
        record.smooth = {"alpha": candidate}
        return made, record

    if alpha != "auto":
        return quantized(alpha)
    best: tuple[Graph, Record] | None = None
    errors: dict[float | None, float] = {}
    for candidate in (None, *ALPHAS):
        made = quantized(candidate)
        errors[candidate] = output_error(graph, made[0], batches, executor)
        if errors[candidate] <= min(errors.values()):
            best = made
    assert best is not None
    best[1].smooth["errors"] = [{"alpha": candidate, "error": error} for candidate, error in errors.items()]
    return best


def output_error(graph: Graph, other: Graph, batches: Iterable[Feeds], executor: Executor) -> float:
    """Per output, the squared difference of two graphs over the squares of the first; summed over the outputs."""
    sources = [node.inputs[0] for node in graph.nodes if node.op == "repad"]
    difference, total = dict.fromkeys(sources, 0.0), dict.fromkeys(sources, 0.0)
    parts = list(chunks(batches))
    for exact, found in zip(executor(graph, parts, sources), executor(other, parts, sources), strict=True):
        for name in sources:
            difference[name] += _squares(exact[name] - found[name])
            total[name] += _squares(exact[name])
    return sum((difference[name] / max(total[name], _TINY) for name in sources), 0.0)


def _squares(array: NDArray[Any]) -> float:
    return float(np.square(array, dtype=np.float64).sum())
