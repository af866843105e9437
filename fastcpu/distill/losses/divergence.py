"""How far two attentions are apart, by what they compute them from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import CLOSED

if TYPE_CHECKING:
    import torch


Pair = tuple["torch.Tensor", "torch.Tensor"]
"""Queries and keys [B, S, D], heads side by side."""


def attention_divergence(student: Pair, teacher: Pair, mask: torch.Tensor, heads: int) -> torch.Tensor:
    """mean over real tokens (queries) and heads of KL(teacher, student) of softmax(q k^T / sqrt(D / heads)).

    D may differ between the two; ``heads`` divides both. ``mask`` [B, S] is True for real tokens; padding is neither
    query nor key.
    """
    log_p, log_q = (_log_attention(*pair, mask, heads) for pair in (student, teacher))
    divergence = (log_q.exp() * (log_q - log_p)).sum(dim=-1)
    return divergence.transpose(1, 2)[mask].mean()


def _log_attention(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor, heads: int) -> torch.Tensor:
    """Logarithms of probabilities [B, heads, S, S]."""
    import torch

    batch, length, width = query.shape
    q, k = (each.reshape(batch, length, heads, width // heads).transpose(1, 2) for each in (query, key))
    scores = q @ k.transpose(2, 3) / (width // heads) ** 0.5
    return torch.log_softmax(scores.masked_fill(~mask[:, None, None, :], CLOSED), dim=-1)
