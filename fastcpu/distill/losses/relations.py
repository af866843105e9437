"""Self-attention relations: how tokens attend to each other by queries, by keys and by values (Wang et al., 2021).

MiniLM v2, sections 3.1 and 3.2: relation heads are cut anew from the projections of the last layer, so student and
teacher may differ in width, in layers and in attention heads.
"""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

from fastcpu.distill.losses.divergence import attention_divergence
from fastcpu.distill.losses.loss import Loss, Outputs
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch

RELATION_HEADS = 48
"""As for base-sized teachers in the paper; of a width that 48 does not divide, the largest divisor of 48 that does."""


def value(student: Outputs, teacher: Outputs) -> torch.Tensor:
    """mean over (query, key, value), relation heads and real tokens of KL(R_teacher, R_student), with
    R = softmax(x x^T / sqrt(D / heads)) over the real tokens and x [S, D / heads] of one head."""
    import torch

    mine, theirs = student.projections, teacher.projections
    assert mine is not None
    assert theirs is not None
    if mine.query.shape[:2] != theirs.query.shape[:2]:
        raise InputError(
            f"loss relations: the student's batch is {list(mine.query.shape[:2])} and the teacher's "
            f"{list(theirs.query.shape[:2])}"
        )
    heads = gcd(RELATION_HEADS, mine.query.shape[2], theirs.query.shape[2])
    pairs = ((mine.query, theirs.query), (mine.key, theirs.key), (mine.value, theirs.value))
    return torch.stack([attention_divergence((s, s), (t, t), student.mask, heads) for s, t in pairs]).mean()


LOSS = Loss("relations", "projections", value)
