"""What distillation minimizes: losses between the outputs of a student and its teacher or labels.

To add one: a file here with a ``LOSS``, and its line below.
"""

from __future__ import annotations

from fastcpu.distill.losses import attention, embedding, hidden, labels, logits, relations, similarity
from fastcpu.distill.losses.loss import Loss, Outputs

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        attention.LOSS,
        embedding.LOSS,
        hidden.LOSS,
        labels.LOSS,
        logits.LOSS,
        relations.LOSS,
        similarity.LOSS,
    )
}

__all__ = ["LOSSES", "Loss", "Outputs"]
