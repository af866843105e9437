"""Hidden states: each student layer against one of the teacher, by default as deep in it (Jiao et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastcpu.distill.losses.loss import Loss, Outputs, check_same
from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch


def layer_map(student_layers: int, teacher_layers: int) -> list[int]:
    """The teacher layer for each student layer 0 (embeddings) .. student_layers; the last maps to the last."""
    return [round(i * teacher_layers / student_layers) for i in range(student_layers + 1)]


def mapped_layers(given: Sequence[int], student_layers: int, teacher_layers: int) -> list[int]:
    """What `layer_map` gives, or what is ``given`` for layers 1 .. student_layers; InputError if that does not fit."""
    if not given:
        return layer_map(student_layers, teacher_layers)
    if len(given) != student_layers or not all(1 <= layer <= teacher_layers for layer in given):
        raise InputError(
            f"distill: layer_map = {list(given)}: it names a layer of the teacher, 1 to {teacher_layers}, for each of "
            f"the student's {student_layers}"
        )
    return [0, *given]


def value(student: Outputs, teacher: Outputs) -> torch.Tensor:
    """mean over layers and real tokens of |s - t|^2 / |t|^2, of vectors [D]."""
    import torch

    assert student.hidden is not None
    assert teacher.hidden is not None
    channels, theirs = student.hidden[0].shape[-1], teacher.hidden[0].shape[-1]
    if channels != theirs:
        raise InputError(f"the loss hidden needs a teacher with {channels} channels, as the student has, not {theirs}")
    pairs = mapped_layers(teacher.layer_map, len(student.hidden) - 1, len(teacher.hidden) - 1)
    total = torch.zeros(())
    for mine, index in zip(student.hidden[1:], pairs[1:], strict=True):
        check_same("hidden", mine, teacher.hidden[index])
        s, t = mine[student.mask], teacher.hidden[index][student.mask]
        total = total + ((s - t).square().sum(dim=-1) / t.square().sum(dim=-1)).mean()
    return total / (len(pairs) - 1)


LOSS = Loss("hidden", "hidden", value)
