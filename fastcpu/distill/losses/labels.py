"""Labels: the cross entropy with what the data itself says of each text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import CLOSED, NO_LABEL, SPANS, Loss, Outputs
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def value(student: Outputs, target: Outputs) -> torch.Tensor:
    """mean over the labelled texts b of -log softmax(logits_b)[label_b]; zero where a batch has no label.

    Of question answering, the mean of this for the first and the last token of the answer, whose classes are the real
    tokens of the sequence.
    """
    given = student.logits or {}
    labels = target.labels
    if labels is None:
        raise InputError("loss labels: the data have no labels")
    if all(name in given for name in SPANS):
        if labels.dim() != 2:
            raise InputError(f"loss labels: {list(labels.shape)} labels are no first and last tokens of answers")
        first, last = (given[name].masked_fill(~student.mask, CLOSED) for name in SPANS)
        return (_cross_entropy(first, labels[:, 0]) + _cross_entropy(last, labels[:, 1])) / 2
    if "logits" not in given or given["logits"].dim() != 2:
        raise InputError("loss labels: it needs a model with a head for sequence classification or question answering")
    return _cross_entropy(given["logits"], labels)


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of logits [B, C] and labels [B]."""
    import torch

    if labels.shape != logits.shape[:1]:
        raise InputError(f"loss labels: {list(labels.shape)} labels for logits {list(logits.shape)}")
    known = labels != NO_LABEL
    wrong = labels[known & ((labels < 0) | (labels >= logits.shape[1]))]
    if len(wrong):
        raise InputError(f"loss labels: label {int(wrong[0])} of a model with {logits.shape[1]} labels")
    total = torch.nn.functional.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
    return total / known.sum().clamp(min=1)


LOSS = Loss("labels", "logits", value, target="labels")
