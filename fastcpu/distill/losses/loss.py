"""What a distillation loss is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Part = Literal["embedding", "logits", "hidden"]


@dataclass(frozen=True)
class Outputs:
    """What a model makes of a batch of B sequences, f32; parts that no loss needs are absent.

    Attributes:
        mask: [B, S], True for real tokens.
        embedding: [B, D], unit length.
        logits: by name: [B, classes] of a sequence, [B, S] or [B, S, classes] of tokens.
        hidden: [B, S, D] behind the embeddings and behind each layer.
    """

    mask: torch.Tensor
    embedding: torch.Tensor | None = None
    logits: dict[str, torch.Tensor] | None = None
    hidden: tuple[torch.Tensor, ...] | None = None


@dataclass(frozen=True)
class Loss:
    """A loss of the registry.

    Attributes:
        name: as recipes write it.
        part: the field of `Outputs` that it reads.
        value: scalar of (student, teacher), a mean over examples or tokens.
    """

    name: str
    part: Part
    value: Callable[[Outputs, Outputs], torch.Tensor]
