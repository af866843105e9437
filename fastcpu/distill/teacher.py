"""Where the targets of distillation come from."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastcpu.distill.hardware import has_bf16
from fastcpu.distill.losses.loss import Outputs, Part
from fastcpu.distill.model import choose_attention, open_directory, outputs
from fastcpu.errors import InputError

if TYPE_CHECKING:
    from fastcpu.distill.corpus import Batch

_OTHERS = 32768


class NoTeacher:
    """For losses whose targets are in the data."""

    def __call__(self, indices: NDArray[np.int64], batch: Batch) -> Outputs:
        """Nothing but the mask."""
        del indices
        return Outputs(batch.mask)


class CachedEmbeddings:
    """Embeddings [N, D], f32 and of unit length, from a .npy file that is mapped.

    Attributes:
        others: a sample of them, evenly spread over the texts, for losses that compare a text with many.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        import torch

        self._vectors: NDArray[np.float32] = np.load(path, mmap_mode="r")
        count = len(self._vectors)
        chosen = np.unique(np.linspace(0, count - 1, min(count, _OTHERS)).round().astype(np.int64))
        self._places = np.full(count, -1, np.int64)
        self._places[chosen] = np.arange(len(chosen))
        self.others = torch.from_numpy(np.array(self._vectors[chosen])).to(device)

    def __call__(self, indices: NDArray[np.int64], batch: Batch) -> Outputs:
        """The embeddings of some texts, and which of `others` they are."""
        import torch

        vectors, places = (
            torch.from_numpy(np.array(each[indices])).to(batch.mask.device) for each in (self._vectors, self._places)
        )
        return Outputs(batch.mask, vectors, others=self.others, places=places)


class LiveTeacher:
    """A model that runs on every batch, on a torch device."""

    def __init__(self, path: Path, parts: AbstractSet[Part], device: str) -> None:
        module, self._pooling = open_directory(path)
        self._module = module.to(device)
        choose_attention(self._module, device)
        self._parts = parts

    def __call__(self, indices: NDArray[np.int64], batch: Batch) -> Outputs:
        """What the teacher makes of a batch."""
        import torch

        del indices
        device = batch.ids.device.type
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=has_bf16(device)):
            return outputs(self._module, self._pooling, batch, self._parts)


class MeanTeacher:
    """Several teachers, whose logits are averaged: the geometric mean of what they predict (Hinton et al., 2015)."""

    def __init__(self, teachers: Sequence[LiveTeacher]) -> None:
        self._teachers = teachers

    def __call__(self, indices: NDArray[np.int64], batch: Batch) -> Outputs:
        """The mean of their logits, by name."""
        import torch

        found = [each(indices, batch).logits or {} for each in self._teachers]
        for other in found[1:]:
            if {name: each.shape for name, each in other.items()} != {n: each.shape for n, each in found[0].items()}:
                raise InputError("the teachers' logits differ in shape: they cannot be averaged")
        return Outputs(
            batch.mask, logits={name: torch.stack([each[name] for each in found]).mean(0) for name in found[0]}
        )
