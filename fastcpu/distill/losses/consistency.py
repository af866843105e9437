"""Consistency: what a student says of a text twice, with other units dropped out (R-Drop of Liang et al., 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import Loss, Outputs, check_same
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def value(first: Outputs, second: Outputs) -> torch.Tensor:
    """(KL(first, second) + KL(second, first)) / 2 of class probabilities, a mean over sequences or real tokens.

    Equation 2 there, of the logits [B, C] of sequences or [B, S, C] of tokens.
    """
    import torch

    if not first.logits or not second.logits or "logits" not in first.logits:
        raise InputError("loss consistency: it needs a model with a head for sequence or token classification")
    a, b = first.logits["logits"], second.logits["logits"]
    check_same("consistency", a, b)
    if a.dim() == 3:
        a, b = a[first.mask], b[first.mask]
    log_p, log_q = torch.log_softmax(a, dim=-1), torch.log_softmax(b, dim=-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1).mean() / 2


LOSS = Loss("consistency", "logits", value, target="itself")
