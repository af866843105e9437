"""Consistency: what a student says of a text twice, with other units dropped out (R-Drop of Liang et al., 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import CLOSED, SPANS, Loss, Outputs, check_same
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def value(first: Outputs, second: Outputs) -> torch.Tensor:
    """(KL(first, second) + KL(second, first)) / 2 of class probabilities, a mean over sequences or real tokens.

    Equation 2 there, of the logits [B, C] of sequences, [B, S, C] of tokens, or [B, S] of the first and of the last
    token of an answer, which add up. Of single logits [B, 1], which are scores, the mean squared difference.
    """
    import torch

    if not first.logits or not second.logits:
        raise InputError("loss consistency: it needs a model with a head for classification or question answering")
    total = torch.zeros(())
    for name, a in first.logits.items():
        b = second.logits[name]
        check_same("consistency", a, b)
        if a.dim() == 3:
            a, b = a[first.mask], b[first.mask]
        elif name in SPANS:
            a, b = (each.masked_fill(~first.mask, CLOSED) for each in (a, b))
        elif a.shape[1] == 1:
            total = total + torch.nn.functional.mse_loss(a, b)
            continue
        log_p, log_q = torch.log_softmax(a, dim=-1), torch.log_softmax(b, dim=-1)
        total = total + ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1).mean() / 2
    return total


LOSS = Loss("consistency", "logits", value, target="itself")
