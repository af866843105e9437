"""Attention probabilities of the last layer, head by head (Wang et al., 2020, MiniLM, section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.divergence import attention_divergence
from fastcpu.distill.losses.loss import Loss, Outputs, check_same
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def value(student: Outputs, teacher: Outputs) -> torch.Tensor:
    """mean over heads and real tokens of KL(A_teacher, A_student), with A = softmax(q k^T / sqrt(D / heads)).

    Of the products alone: what a model adds to its scores by distance (MPNet) is left out on both sides. Widths may
    differ, numbers of heads may not.
    """
    mine, theirs = student.projections, teacher.projections
    assert mine is not None
    assert theirs is not None
    if mine.heads != theirs.heads:
        raise InputError(
            f"loss attention: the student has {mine.heads} attention heads and the teacher {theirs.heads}; the loss "
            "relations compares such models"
        )
    check_same("attention", mine.query[..., 0], theirs.query[..., 0])
    return attention_divergence((mine.query, mine.key), (theirs.query, theirs.key), student.mask, mine.heads)


LOSS = Loss("attention", "projections", value)
