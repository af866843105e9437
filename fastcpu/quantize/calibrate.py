"""Collecting the statistics that a scheme needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

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
            histograms[name].update(np.asarray(tapped[source], np.float32))
    if seen == 0:
        raise QuantizationError("calibration data is empty")
    return histograms
