"""Logits: Kullback-Leibler divergence of softened distributions (Hinton et al., 2015, section 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import Loss, Outputs, compare_logits
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def value(student: Outputs, teacher: Outputs) -> torch.Tensor:
    """T^2 KL(teacher / T, student / T), a mean over sequences or real tokens, summed over the named logits, of the
    temperature T of the target; of single logits, which are scores, the mean squared difference (`compare_logits`).
    """
    import torch

    assert student.logits is not None
    assert teacher.logits is not None
    for name in student.logits:
        if name not in teacher.logits:
            raise InputError(f"the loss logits needs a teacher with {name}; it has {', '.join(teacher.logits)}")

    def divergence(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        log_p = torch.log_softmax(mine / teacher.temperature, dim=-1)
        log_q = torch.log_softmax(theirs / teacher.temperature, dim=-1)
        return teacher.temperature**2 * (log_q.exp() * (log_q - log_p)).sum(dim=-1)

    return compare_logits("logits", student, teacher.logits, divergence)


LOSS = Loss("logits", "logits", value)
