"""Pruning of linears: exact sparsity, on graphs or on bare NumPy weights."""

from __future__ import annotations

from fastcpu.prune.graph import LayerSparsity, encoder_linears, prune_graph
from fastcpu.prune.patterns import PATTERNS
from fastcpu.prune.score import Score
from fastcpu.prune.scores import SCORES
from fastcpu.prune.weight import Sparsity, keep_mask, keep_masks, prune_weight, sparsity_of

__all__ = [
    "PATTERNS",
    "SCORES",
    "LayerSparsity",
    "Score",
    "Sparsity",
    "encoder_linears",
    "keep_mask",
    "keep_masks",
    "prune_graph",
    "prune_weight",
    "sparsity_of",
]
