"""What a distillation loss is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fastcpu.errors import InputError

if TYPE_CHECKING:
    import torch

Part = Literal["embedding", "logits", "hidden", "projections"]

CLOSED = -1e4
"""The logit of what must not be chosen: its probability is exactly zero, and differences of logarithms stay finite."""
SPANS = ("start_logits", "end_logits")
"""The logits [B, S] of question answering: where in its sequence an answer begins, and where it ends."""
NO_LABEL = -100
"""The label of a text that has none; what torch leaves out of a cross entropy by default."""
NO_ANSWER = -1
"""Where an answer begins and ends that the passage does not hold."""


@dataclass(frozen=True)
class Projections:
    """What the attention of the last layer computes from its input, f32 [B, S, D] each, heads side by side.

    Attributes:
        query, key, value: the projections.
        heads: number of attention heads that D divides into.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    heads: int


@dataclass(frozen=True)
class Outputs:
    """What a model makes of a batch of B sequences, f32; parts that no loss needs are absent.

    Attributes:
        mask: [B, S], True for real tokens.
        embedding: [B, D], unit length.
        logits: by name: [B, classes] of a sequence, [B, S] or [B, S, classes] of tokens.
        hidden: [B, S, D] behind the embeddings and behind each layer.
        projections: of the last layer's attention.
        labels: what the data itself says of each text, ``NO_LABEL`` where it says nothing: int64 [B], its class, or
            [B, 2], the first and the last token of the answer. Targets only.
        others: [M, D], the teacher's embeddings of texts of the data. Targets only.
        places: int64 [B], where each sequence itself is among ``others``; -1 where it is not. Targets only.
        temperature: by which logits are softened. Targets only.
        layer_map: the layer, from 1, that each layer of the student learns; empty: those at the same relative depths.
            Targets only.
    """

    mask: torch.Tensor
    embedding: torch.Tensor | None = None
    logits: Mapping[str, torch.Tensor] | None = None
    hidden: tuple[torch.Tensor, ...] | None = None
    projections: Projections | None = None
    labels: torch.Tensor | None = None
    others: torch.Tensor | None = None
    places: torch.Tensor | None = None
    temperature: float = 2.0
    layer_map: tuple[int, ...] = ()

    def part_of(self, begin: int, end: int) -> Outputs:
        """Those of some of the sequences."""
        rows = slice(begin, end)
        projections = self.projections
        return Outputs(
            self.mask[rows],
            None if self.embedding is None else self.embedding[rows],
            None if self.logits is None else {name: each[rows] for name, each in self.logits.items()},
            None if self.hidden is None else tuple(each[rows] for each in self.hidden),
            None
            if projections is None
            else Projections(
                projections.query[rows], projections.key[rows], projections.value[rows], projections.heads
            ),
            None if self.labels is None else self.labels[rows],
        )


@dataclass(frozen=True)
class Loss:
    """A loss of the registry.

    Attributes:
        name: as recipes write it.
        part: the field of `Outputs` that it reads.
        value: scalar of (student, target), a mean over examples or tokens. InputError if their shapes do not fit.
        target: the same part of the teacher, the labels of the data, or the same part of the student itself, which
            runs on every text a second time.
    """

    name: str
    part: Part
    value: Callable[[Outputs, Outputs], torch.Tensor]
    target: Literal["teacher", "labels", "itself"] = "teacher"


def compare_logits(
    loss: str,
    mine: Outputs,
    theirs: Mapping[str, torch.Tensor],
    divergence: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """The sum over named logits of a mean divergence.

    Logits [B, C] are one distribution per sequence, [B, S, C] one per real token, and [B, S] one over the real tokens
    of each sequence (`SPANS`). Single logits [B, 1] are scores and no distribution: of these the mean squared
    difference.

    Args:
        loss: its name, for errors.
        mine: of the model that learns.
        theirs: what its logits are compared with, by the same names.
        divergence: per distribution [D] of two times logits [D, C], the student's first.

    Raises:
        InputError: the shapes differ.
    """
    import torch

    assert mine.logits is not None
    total = torch.zeros(())
    for name, a in mine.logits.items():
        b = theirs[name]
        check_same(loss, a, b)
        if a.dim() == 2 and a.shape[1] == 1 and name not in SPANS:
            total = total + torch.nn.functional.mse_loss(a, b)
            continue
        if a.dim() == 3:
            a, b = a[mine.mask], b[mine.mask]
        elif name in SPANS:
            a, b = (each.masked_fill(~mine.mask, CLOSED) for each in (a, b))
        total = total + divergence(a, b).mean()
    return total


def check_same(name: str, student: torch.Tensor, teacher: torch.Tensor) -> None:
    """InputError, which names the loss, if two tensors that it compares differ in shape."""
    if student.shape != teacher.shape:
        raise InputError(
            f"loss {name}: the student gives {list(student.shape)} and the teacher {list(teacher.shape)}, which do not "
            "compare; take another loss or another teacher"
        )
