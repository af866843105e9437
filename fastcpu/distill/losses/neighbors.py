"""Neighbors: a text should be as near to other texts as its teacher's embedding is, above all to the nearest.

After SEED (Fang et al., 2021, equation 3): the student's similarities to the teacher's embeddings of many texts, as a
distribution, should be the teacher's. It is what a search sees of an embedding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import CLOSED, Loss, Outputs, check_same

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.05


def value(student: Outputs, teacher: Outputs) -> torch.Tensor:
    """mean over b of KL(softmax(<t_b, u> / T), softmax(<s_b, u> / T)) over embeddings u of other texts, by the teacher.

    These are the teacher's ``others`` [M, D], or those of the batch where there are none; all vectors have unit length.
    """
    import torch

    assert student.embedding is not None
    assert teacher.embedding is not None
    check_same("neighbors", student.embedding, teacher.embedding)
    mine, theirs = student.embedding, teacher.embedding
    others, places = theirs.detach(), torch.arange(len(theirs), device=theirs.device)
    if teacher.others is not None and teacher.places is not None:
        others, places = teacher.others, teacher.places
    itself = torch.arange(len(others), device=theirs.device) == places.unsqueeze(1)
    log_p, log_q = (
        torch.log_softmax((each @ others.T).masked_fill(itself, CLOSED) / TEMPERATURE, dim=-1)
        for each in (mine, theirs)
    )
    return (log_q.exp() * (log_q - log_p)).sum(dim=-1).mean()


LOSS = Loss("neighbors", "embedding", value)
