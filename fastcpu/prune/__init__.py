"""Pruning of linears: exact sparsity, on graphs or on bare NumPy weights."""

from __future__ import annotations

from fastcpu.prune.graph import LayerSparsity, encoder_linears, prune_graph
from fastcpu.prune.patterns import PATTERNS
from fastcpu.prune.scores import SCORES
from fastcpu.prune.weight import Sparsity, keep_mask, prune_weight, sparsity_of

__all__ = [
    "PATTERNS",
    "SCORES",
    "LayerSparsity",
    "Sparsity",
    "encoder_linears",
    "keep_mask",
    "prune_graph",
    "prune_weight",
    "sparsity_of",
]
