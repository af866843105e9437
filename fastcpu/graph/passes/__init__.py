"""The passes that every imported graph goes through, in order. The graph is verified after each one."""

from __future__ import annotations

from collections.abc import Callable

from fastcpu.errors import GraphError
from fastcpu.graph import verify
from fastcpu.graph.ir import Graph
from fastcpu.graph.passes import fuse_activation, fuse_quantize, fuse_residual, remove_dead
from fastcpu.graph.trace import Trace, logger

Pass = Callable[[Graph, Trace], int]
"""Rewrites a graph in place, says in the trace where it could not, and returns how often it did."""

PASSES: tuple[tuple[str, Pass], ...] = (
    ("remove_dead", remove_dead.run),  # first: what nobody reads must not count as a second reader below
    ("fuse_activation", fuse_activation.run),  # linear + pointwise -> linear
    ("fuse_residual", fuse_residual.run),  # add + layernorm -> layernorm
    (
        "fuse_quantize",
        fuse_quantize.run,
    ),  # layernorm + quantize -> layernorm; after the layernorms have their residuals
)


def run(graph: Graph, trace: Trace | None = None) -> Graph:
    """Apply all passes to ``graph`` in place and return it."""
    trace = trace or Trace()
    for name, rewrite in PASSES:
        count = rewrite(graph, trace)
        logger.debug("%s: %d rewrites", name, count)
        try:
            verify.check(graph)
        except GraphError as error:
            raise GraphError(f"pass {name} left an invalid graph: {error}") from error
    return graph
