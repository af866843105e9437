"""Collecting the statistics that a scheme needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fastcpu.errors import QuantizationError
from fastcpu.graph.edit import copy_graph
from fastcpu.graph.ir import Graph
from fastcpu.quantize.executor import Executor, Feeds
from fastcpu.quantize.histogram import Histogram
from fastcpu.quantize.rewrite import split_activations
from fastcpu.quantize.scheme import Wanted

CHUNK_ROWS = 16
"""Rows that run at once: bounds the memory that tapped values take."""


def chunks(batches: Iterable[Feeds], rows: int = CHUNK_ROWS) -> Iterator[Feeds]:
    """The same rows in batches of at most ``rows``."""
    for feeds in batches:
        count = max((array.shape[0] for array in feeds.values()), default=0)
        for begin in range(0, count, rows):
            yield {name: array[begin : begin + rows] for name, array in feeds.items()}


def observe(graph: Graph, batches: Iterable[Feeds], executor: Executor, wanted: Wanted) -> dict[str, Histogram]:
    """Runs an f32 graph on calibration batches and returns the statistics that a scheme wants.

    QuantizationError if there is no batch.
    """
    split = copy_graph(graph)
    before = split_activations(split, wanted.linears)
    sources = {name: name for name in wanted.values} | before
    histograms = {name: Histogram(name) for name in sources}
    seen = 0
    for tapped in executor(split, chunks(batches), list(sources.values())):
        seen += 1
        for name, source in sources.items():
            array = np.asarray(tapped[source], np.float32)
            histograms[name].update(array / wanted.divisors[name] if name in wanted.divisors else array)
    if seen == 0:
        raise QuantizationError("calibration data is empty")
    return histograms


def largest_per_channel(
    graph: Graph, batches: Iterable[Feeds], executor: Executor, names: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """The largest magnitude that calibration batches give each channel of the named values, [channels] each.

    QuantizationError if there is no batch, or a value is NaN or infinite.
    """
    largest = {name: np.zeros(graph.values[name].channels, np.float32) for name in names}
    seen = 0
    for tapped in executor(graph, chunks(batches), names):
        seen += 1
        for name in names:
            array = np.abs(np.asarray(tapped[name], np.float32))
            if not np.isfinite(array).all():
                raise QuantizationError(f"value '{name}' is NaN or infinite on the calibration data")
            largest[name] = np.maximum(largest[name], array.max(axis=0, initial=0))
    if seen == 0:
        raise QuantizationError("calibration data is empty")
    return largest
