"""What distillation minimizes: losses between the outputs of student and teacher.

To add one: a file here with a ``LOSS``, and its line below.
"""

from __future__ import annotations

from fastcpu.distill.losses import embedding, hidden, logits, similarity
from fastcpu.distill.losses.loss import Loss, Outputs

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        embedding.LOSS,
        hidden.LOSS,
        logits.LOSS,
        similarity.LOSS,
    )
}

__all__ = ["LOSSES", "Loss", "Outputs"]
