"""Similarity matrix: cosines between all pairs of a batch should be the teacher's (Tung and Mori, 2019, equation 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import Loss, Outputs, check_same

if TYPE_CHECKING:
    import torch


def value(student: Outputs, teacher: Outputs) -> torch.Tensor:
    """mean over a != b of (<s_a, s_b> - <t_a, t_b>)^2, of unit vectors [B, D]; widths may differ."""
    assert student.embedding is not None
    assert teacher.embedding is not None
    check_same("similarity", student.embedding[:, 0], teacher.embedding[:, 0])
    difference = student.embedding @ student.embedding.T - teacher.embedding @ teacher.embedding.T
    batch = len(difference)
    # The diagonal is zero up to rounding.
    return (difference * difference).sum() / max(1, batch * (batch - 1))


LOSS = Loss("similarity", "embedding", value)
