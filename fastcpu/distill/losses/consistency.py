"""Consistency: what a student says of a text twice, with other units dropped out (R-Drop of Liang et al., 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import Loss, Outputs, compare_logits
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def value(first: Outputs, second: Outputs) -> torch.Tensor:
    """(KL(first, second) + KL(second, first)) / 2 of class probabilities, a mean over sequences or real tokens.

    Equation 2 there, summed over the named logits; of single logits, which are scores, the mean squared difference
    (`compare_logits`).
    """
    import torch

    if not first.logits or not second.logits:
        raise InputError("loss consistency: it needs a model with a head for classification or question answering")

    def divergence(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        log_p, log_q = torch.log_softmax(a, dim=-1), torch.log_softmax(b, dim=-1)
        return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1) / 2

    return compare_logits("consistency", first, second.logits, divergence)


LOSS = Loss("consistency", "logits", value, target="itself")
