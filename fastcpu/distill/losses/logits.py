"""Logits: Kullback-Leibler divergence of softened distributions (Hinton et al., 2015, section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import CLOSED, SPANS, Loss, Outputs, check_same
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def value(student: Outputs, teacher: Outputs) -> torch.Tensor:
    """T^2 KL(teacher / T, student / T), a mean over sequences or real tokens, summed over the named logits, of the
    temperature T of the target.

    Logits [B, S] are one distribution over the tokens of each sequence (start and end of an answer); logits [B, S, C]
    are one distribution per real token. A single logit, [B, 1], is a score and no distribution: of these the mean
    squared difference.
    """
    import torch

    assert student.logits is not None
    assert teacher.logits is not None
    total = torch.zeros(())
    for name, mine in student.logits.items():
        if name not in teacher.logits:
            raise InputError(f"the loss logits needs a teacher with {name}; it has {', '.join(teacher.logits)}")
        theirs = teacher.logits[name]
        check_same("logits", mine, theirs)
        if mine.dim() == 3:
            mine, theirs = mine[student.mask], theirs[student.mask]
        elif name in SPANS:
            mine, theirs = (each.masked_fill(~student.mask, CLOSED) for each in (mine, theirs))
        elif mine.shape[1] == 1:
            total = total + torch.nn.functional.mse_loss(mine, theirs)
            continue
        log_p = torch.log_softmax(mine / teacher.temperature, dim=-1)
        log_q = torch.log_softmax(theirs / teacher.temperature, dim=-1)
        divergence = (log_q.exp() * (log_q - log_p)).sum(dim=-1).mean()
        total = total + teacher.temperature**2 * divergence
    return total


LOSS = Loss("logits", "logits", value)
