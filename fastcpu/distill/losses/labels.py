"""Labels: the cross entropy with what the data itself says of each text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import NO_LABEL, Loss, Outputs
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def value(student: Outputs, target: Outputs) -> torch.Tensor:
    """mean over the labelled texts b of -log softmax(logits_b)[label_b]; zero where a batch has no label."""
    import torch

    logits = (student.logits or {}).get("logits")
    if logits is None or logits.dim() != 2:
        raise InputError("loss labels: it needs a model with a head for sequence classification")
    labels = target.labels
    if labels is None:
        raise InputError("loss labels: the data have no labels")
    if labels.shape != logits.shape[:1]:
        raise InputError(f"loss labels: {list(labels.shape)} labels for logits {list(logits.shape)}")
    known = labels != NO_LABEL
    wrong = labels[known & ((labels < 0) | (labels >= logits.shape[1]))]
    if len(wrong):
        raise InputError(f"loss labels: label {int(wrong[0])} of a model with {logits.shape[1]} labels")
    total = torch.nn.functional.cross_entropy(logits, labels, ignore_index=NO_LABEL, reduction="sum")
    return total / known.sum().clamp(min=1)


LOSS = Loss("labels", "logits", value, target="labels")
