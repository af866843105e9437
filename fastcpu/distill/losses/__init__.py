"""What distillation minimizes: losses between the outputs of a student and its teacher or labels.

To add one: a file here with a ``LOSS``, and its line below.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastcpu.distill.losses import (
    attention,
    consistency,
    embedding,
    hidden,
    labels,
    logits,
    neighbors,
    relations,
    similarity,
)
from fastcpu.distill.losses.loss import Loss, Outputs, Part

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        attention.LOSS,
        consistency.LOSS,
        embedding.LOSS,
        hidden.LOSS,
        labels.LOSS,
        logits.LOSS,
        neighbors.LOSS,
        relations.LOSS,
        similarity.LOSS,
    )
}


def learns_labels(names: Iterable[str]) -> bool:
    """True if one of the losses with these names has the labels of the data as its target."""
    return any(LOSSES[name].target == "labels" for name in names)


def runs_twice(names: Iterable[str]) -> bool:
    """True if one of the losses with these names compares the student with itself."""
    return any(LOSSES[name].target == "itself" for name in names)


def teacher_parts(names: Iterable[str]) -> set[Part]:
    """What the losses with these names read of the teacher."""
    return {LOSSES[name].part for name in names if LOSSES[name].target == "teacher"}


__all__ = ["LOSSES", "Loss", "Outputs", "learns_labels", "runs_twice", "teacher_parts"]
