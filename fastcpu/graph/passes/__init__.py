"""The passes that graphs go through, in order. The graph is verified after each one."""

from __future__ import annotations

from collections.abc import Callable

from fastcpu.errors import GraphError
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph
from fastcpu.graph.passes import fuse_activation, fuse_quantize, fuse_residual, merge_qkv, remove_dead
from fastcpu.graph.trace import Trace, logger

Pass = Callable[[Graph, Trace], int]
"""Rewrites a graph in place, says in the trace where it could not, and returns how often it did."""

Passes = tuple[tuple[str, Pass], ...]

PASSES: Passes = (
    ("remove_dead", remove_dead.run),  # first: what nobody reads must not count as a second reader below
    ("fuse_activation", fuse_activation.run),  # linear + pointwise -> linear
    ("fuse_residual", fuse_residual.run),  # add + layernorm -> layernorm
    (
        "fuse_quantize",
        fuse_quantize.run,
    ),  # layernorm + quantize -> layernorm; after the layernorms have their residuals
)
"""Of every imported graph."""

PASSES_AFTER_QUANTIZATION: Passes = (
    ("merge_qkv", merge_qkv.run),  # three linears -> one; calibration and the choice of scales need them apart
)
"""Of a graph with u8 values, which a scheme of fastcpu.quantize wrote or a file held."""


def run(graph: Graph, trace: Trace | None = None, passes: Passes = PASSES) -> Graph:
    """Apply ``passes`` to ``graph`` in place and return it."""
    trace = trace or Trace()
    for name, rewrite in passes:
        count = rewrite(graph, trace)
        logger.debug("%s: %d rewrites", name, count)
        try:
            verify.check(graph)
        except GraphError as error:
            raise GraphError(f"pass {name} left an invalid graph: {error}") from error
    return graph
