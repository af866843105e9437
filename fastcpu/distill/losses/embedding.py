"""Sentence embeddings: one minus the cosine to the teacher's embedding of the same text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import Loss, Outputs, check_same
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def value(student: Outputs, teacher: Outputs) -> torch.Tensor:
    """mean over b of 1 - <s_b, t_b>, of unit vectors [B, D]."""
    assert student.embedding is not None
    assert teacher.embedding is not None
    channels, theirs = student.embedding.shape[-1], teacher.embedding.shape[-1]
    if channels != theirs:
        raise InputError(
            f"the loss embedding needs a teacher with {channels} channels, as the student has, not {theirs}; the loss "
            "similarity takes any number"
        )
    check_same("embedding", student.embedding, teacher.embedding)
    return 1 - (student.embedding * teacher.embedding).sum(dim=-1).mean()


LOSS = Loss("embedding", "embedding", value)
